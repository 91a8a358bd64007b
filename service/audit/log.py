"""Writes the audit log: any number of threads and processes of one machine, one file."""

import fcntl
import hashlib
import hmac
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

from service.audit.chain import Head, follow, line_of
from service.errors import AuditChainError, AuditUnavailableError, WarplineError

MIB = 1 << 20
DONE = "done"

logger = logging.getLogger(__name__)


class AuditSettings(Protocol):
    """What the settings say about the log."""

    @property
    def data_dir(self) -> Path: ...
    @property
    def audit_file(self) -> Path | None: ...
    @property
    def audit_key(self) -> Any: ...
    @property
    def audit_required(self) -> bool: ...
    @property
    def audit_rotate_mib(self) -> int: ...


@dataclass(eq=False)
class AuditLog:
    """Adds records. What is told must say nothing about a patient: see `pseudonym`.

    A record that cannot be written, because the disk is full or the file may not be written to, is
    counted, logged as an error, and mentioned (`lost`) in the next that can. The request goes on;
    where `is_required`, it is refused instead.
    """

    path: Path
    key: bytes = b""
    is_required: bool = False
    rotate_bytes: int = 64 * MIB
    lost: int = field(default=0, init=False)
    _lock: Lock = field(default_factory=Lock, init=False, repr=False)

    @classmethod
    def of(cls, settings: AuditSettings) -> "AuditLog":
        """The log of this process's settings."""
        key = settings.audit_key.get_secret_value().encode() if settings.audit_key else b""
        path = settings.audit_file or settings.data_dir / "audit.jsonl"
        return cls(path, key, settings.audit_required, settings.audit_rotate_mib * MIB)

    def note(
        self, who: str, did: str, what: Mapping[str, Any] | None = None, outcome: str = DONE
    ) -> None:
        """Add a record.

        Args:
            who: The owner, by the name of the API key.
            did: The kind of action, such as `submit`.
            what: What it was done to: ids of ours, digests, pseudonyms.
            outcome: `done`, or the code of an error.

        Raises:
            AuditUnavailableError: If it cannot be written and must be.
        """
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        facts = {"at": at, "who": who, "did": did, "what": dict(what or {}), "outcome": outcome}
        with self._lock:
            try:
                self._append(facts | ({"lost": self.lost} if self.lost else {}))
                self.lost = 0
            except OSError as error:
                self.lost += 1
                logger.error("the audit log cannot be written: %s", error.strerror)
                if self.is_required:
                    raise AuditUnavailableError from None

    @contextmanager
    def action(self, who: str, did: str, **what: Any) -> Iterator[dict[str, Any]]:
        """Note what is done inside when it ends, well or with an error, which is raised again.

        Add to the dictionary what is known only later.
        """
        try:
            yield what
        except WarplineError as error:
            self._note_refusal(who, did, what, error.slug)
            raise
        except Exception:
            self._note_refusal(who, did, what, "INTERNAL")
            raise
        self.note(who, did, what)

    def _note_refusal(self, who: str, did: str, what: Mapping[str, Any], outcome: str) -> None:
        try:
            self.note(who, did, what, outcome)
        except AuditUnavailableError:
            logger.error("a refusal could not be recorded")  # the caller hears of the refusal

    def pseudonym(self, uid: str) -> str:
        """What stands for a UID in the log: the same for the same UID and key."""
        made = hmac.digest(self.key, uid.encode(), "sha256").hex() if self.key else ""
        return (made or hashlib.sha256(uid.encode()).hexdigest())[:32]

    def _append(self, facts: Mapping[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(self.path):
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                head = self._head(descriptor)
                line, head = line_of(facts, head, self.key)
                _write_all(descriptor, line)
            finally:
                os.close(descriptor)
            with suppress(OSError):  # the record is there; the next one finds it
                self._settle(head)

    def _settle(self, head: Head) -> None:
        """Write the head, and go on in a new file where this one is large."""
        head.write(self.path)
        if head.offset >= self.rotate_bytes:
            self.path.rename(self.path.with_name(f"{self.path.name}.{head.number:06d}"))
            Head(head.number, head.digest, 0).write(self.path)

    def _head(self, descriptor: int) -> Head:
        """Where the chain goes on: the head, and records that a process wrote before it died.

        A line that was being written then is taken off again: nobody was told that it was there.
        """
        head = Head.read(self.path) or Head()
        size = os.fstat(descriptor).st_size
        if size <= head.offset:
            return Head(head.number, head.digest, size)  # what is missing, `verify` will tell
        rest = os.pread(descriptor, size - head.offset, head.offset)
        whole, _, torn = rest.rpartition(b"\n")
        for line in whole.splitlines(keepends=True) if whole else ():
            try:
                head = follow(line if line.endswith(b"\n") else line + b"\n", head, self.key)
            except AuditChainError:
                return Head(head.number, head.digest, size)  # `verify` will tell
        if torn:
            os.ftruncate(descriptor, size - len(torn))
        return head


@contextmanager
def _locked(log: Path) -> Iterator[None]:
    """Alone among threads and processes, until the block ends."""
    with log.with_name(log.name + ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write_all(descriptor: int, line: bytes) -> None:
    """Write the line whole, or leave nothing of it.

    Raises:
        OSError: If it cannot be written.
    """
    before = os.fstat(descriptor).st_size
    try:
        while line:
            line = line[os.write(descriptor, line) :]
    except OSError:
        os.ftruncate(descriptor, before)
        raise
