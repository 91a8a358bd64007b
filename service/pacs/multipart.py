"""Takes multipart/related apart as it arrives, in bounded memory.

Source: RFC 2046 section 5.1.1, RFC 2387; DICOM PS3.18 section 8.6.
"""

from collections.abc import Iterable, Iterator
from email.message import Message
from typing import NamedTuple

from service.errors import PacsUnavailableError

LONGEST_HEADERS = 16 << 10
DAMAGED = "The archive's answer is not the multipart message that the standard describes."


class Piece(NamedTuple):
    """Bytes of a part; `begins` with the first of each part, which may be empty."""

    begins: bool
    data: bytes


def boundary_of(content_type: str) -> bytes | None:
    """The boundary of a multipart message; None if it is none."""
    message = Message()
    message["Content-Type"] = content_type
    boundary = message.get_boundary()
    if message.get_content_maintype() != "multipart" or not boundary or len(boundary) > 200:
        return None
    return boundary.encode("latin-1", "replace")


def pieces(chunks: Iterable[bytes], boundary: bytes) -> Iterator[Piece]:
    """The bytes of every part, in order.

    Raises:
        PacsUnavailableError: If the message is damaged or ends before its last boundary.
    """
    source = _Source(iter(chunks))
    delimiter = b"\r\n--" + boundary
    source.held = b"\r\n"  # the first boundary may stand at the very beginning
    for _ in source.until(delimiter):
        pass  # a preamble means nothing
    while not _is_last(source):
        _skip_headers(source)
        yield Piece(True, b"")
        for data in source.until(delimiter):
            yield Piece(False, data)


class _Source:
    """Bytes that have come, and those that will."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self.held = b""

    def need(self, size: int) -> None:
        while len(self.held) < size:
            self.more()

    def more(self) -> None:
        chunk = next(self._chunks, None)
        if chunk is None:
            raise PacsUnavailableError("The archive's answer ended before its time.")
        self.held += chunk

    def until(self, mark: bytes) -> Iterator[bytes]:
        """Everything before the mark, which is taken too."""
        while (found := self.held.find(mark)) < 0:
            sure = len(self.held) - len(mark) + 1
            if sure > 0:
                yield self.held[:sure]
                self.held = self.held[sure:]
            self.more()
        if found:
            yield self.held[:found]
        self.held = self.held[found + len(mark) :]


def _is_last(source: _Source) -> bool:
    source.need(2)
    return source.held.startswith(b"--")


def _skip_headers(source: _Source) -> None:
    while (end := source.held.find(b"\r\n\r\n")) < 0:
        if len(source.held) > LONGEST_HEADERS:
            raise PacsUnavailableError(DAMAGED)
        source.more()
    source.held = source.held[end + 4 :]
