"""Looks whether an audit log is whole: nothing changed, removed, inserted or cut off."""

from dataclasses import dataclass
from pathlib import Path

from service.audit.chain import Head, follow, rotated_files
from service.errors import AuditChainError


@dataclass(frozen=True)
class Verified:
    """How many records there are, in how many files, and the last."""

    records: int
    files: int
    last: Head


def verify(log: Path, key: bytes = b"", *, after: Head | None = None) -> Verified:
    """Follow the chain from the first record to the last, through the rotated files.

    Args:
        log: The file that is written to; those that were cut off lie beside it.
        key: The key that the log was written with.
        after: The record before the oldest that is kept, where older ones were put elsewhere.

    Raises:
        AuditChainError: Says which record, file and line is the first that is wrong.
    """
    head = begun = after or Head()
    files = [*rotated_files(log), *([log] if log.exists() else [])]
    if not files and Head.read(log) is None:
        raise AuditChainError("There is no audit log.")
    for number, path in enumerate(files, start=1):
        head = _followed(path, Head(head.number, head.digest), key, number)
    _require_end(log, head)
    return Verified(head.number - begun.number, len(files), head)


def _followed(path: Path, head: Head, key: bytes, number: int) -> Head:
    with path.open("rb") as file:
        for line_number, line in enumerate(file, start=1):
            try:
                head = follow(line, head, key)
            except AuditChainError as error:
                where = f"File {number}, line {line_number}"
                raise AuditChainError(f"{where}: {error.detail}") from None
    return head


def _require_end(log: Path, last: Head) -> None:
    told = Head.read(log)
    if told is None:
        raise AuditChainError(
            f"The head beside the log is missing or damaged: record {last.number} is the last "
            "here, and whether more followed cannot be told."
        )
    if told.number > last.number:
        raise AuditChainError(
            f"Records {last.number + 1} to {told.number} are missing at the end of the log."
        )
    if told.number == last.number and told.digest != last.digest:
        raise AuditChainError(f"The last record, {last.number}, is not the one that was written.")
