"""The records of the audit log, as lines of JSON, and the chain that binds them.

Each record holds the digest of the one before. With a key the digests are HMACs: who may write to
the file but does not have the key cannot make a chain that verifies. A file beside the log, its
head, says which record is the last, so that records taken from the end are missed too.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from service.errors import AuditChainError

ORIGIN = "0" * 64
HASH = "hash"
ROTATED = re.compile(r"\.(\d{6,})$")


@dataclass(frozen=True)
class Head:
    """The last record: its number, its digest, and where the file ended after it."""

    number: int = 0
    digest: str = ORIGIN
    offset: int = 0

    @classmethod
    def read(cls, log: Path) -> "Head | None":
        """The head beside a log; None if there is none or it is damaged."""
        try:
            told = json.loads(head_file(log).read_text("utf-8"))
            return cls(int(told["number"]), str(told["digest"]), int(told["offset"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, log: Path) -> None:
        """Replace the head in one step."""
        new = log.with_name(log.name + ".head.new")
        new.write_text(json.dumps(asdict(self)), "utf-8")
        new.replace(head_file(log))


def head_file(log: Path) -> Path:
    return log.with_name(log.name + ".head")


def rotated_files(log: Path) -> list[Path]:
    """What was cut off the log, oldest first; the numbers are those of their last records."""
    found = (path for path in log.parent.glob(f"{log.name}.*") if ROTATED.search(path.name))
    return sorted(found, key=lambda path: int(path.name.rpartition(".")[2]))


def line_of(facts: Mapping[str, Any], after: Head, key: bytes) -> tuple[bytes, Head]:
    """The next record as a line, and the head that it makes."""
    record = {"n": after.number + 1, **facts, "prev": after.digest}
    digest = _digest(record, key)
    line = json.dumps({**record, HASH: digest}, separators=(",", ":")).encode() + b"\n"
    return line, Head(after.number + 1, digest, after.offset + len(line))


def follow(line: bytes, after: Head, key: bytes) -> Head:
    """The head after this line.

    Raises:
        AuditChainError: If the line is no record, was changed, or does not follow.
    """
    expected = after.number + 1
    try:
        record = json.loads(line)
        told, number, prev = record.pop(HASH), int(record["n"]), record["prev"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise AuditChainError(f"What stands where record {expected} belongs is none.") from None
    if not line.endswith(b"\n"):
        raise AuditChainError(f"Record {expected} is cut off.")
    if number != expected:
        what = "records are missing or were inserted"
        raise AuditChainError(f"Record {number} stands where {expected} belongs: {what}.")
    if not hmac.compare_digest(_digest(record, key), str(told)):
        raise AuditChainError(f"Record {number} was changed, or the key is another.")
    if prev != after.digest:
        raise AuditChainError(f"Record {number} does not follow the record before it.")
    return Head(number, told, after.offset + len(line))


def _digest(record: Mapping[str, Any], key: bytes) -> str:
    text = json.dumps(record, separators=(",", ":"), sort_keys=True).encode()
    return hmac.digest(key, text, "sha256").hex() if key else hashlib.sha256(text).hexdigest()
