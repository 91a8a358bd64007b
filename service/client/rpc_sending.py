"""Files on their way to the server, over as many broken streams as it takes; without I/O."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from isal import isal_zlib

from service.checksums import sha256_of
from service.errors import InvalidRequestError
from service.pb import warpline_pb2 as pb

CHUNK_BYTES = 2**20
SentBytes = Callable[[int, int], object]


@dataclass(frozen=True)
class Piece:
    """Bytes of a file that are next."""

    offset: int
    data: bytes

    def fill(self, chunk: pb.FileChunk) -> None:
        """Write them into a message where it lies; one that is put in afterwards is copied."""
        chunk.offset, chunk.data = self.offset, self.data
        chunk.crc32 = isal_zlib.crc32(self.data)


Part = pb.FileStart | Piece


@dataclass
class FileSending:
    """One file: what the server knows of it, and what is next."""

    role: str
    path: Path
    upload_id: str = ""
    safe_bytes: int = 0
    is_complete: bool = False
    _next: int | None = None  # None: the server has not opened it on this stream
    _is_started: bool = False
    _source: BinaryIO | None = None

    @cached_property
    def size_bytes(self) -> int:
        return self.path.stat().st_size

    @cached_property
    def sha256(self) -> bytes:
        return bytes.fromhex(sha256_of(self.path))

    @property
    def is_sent(self) -> bool:
        """Whether its last byte is under way."""
        return self._next is not None and self._next >= self.size_bytes

    @property
    def sent_bytes(self) -> int:
        return self._next or 0

    def next_part(self) -> Part | None:
        """FileStart, then, once it is opened, chunks."""
        if not self._is_started:
            self._is_started = True
            return pb.FileStart(
                role=self.role,
                size_bytes=self.size_bytes,
                sha256=self.sha256,
                upload_id=self.upload_id,
            )
        return None if self._next is None or self.is_sent else self._chunk(self._next)

    def _chunk(self, offset: int) -> Piece:
        if self._source is None:
            self._source = self.path.open("rb")
        self._source.seek(offset)
        data = self._source.read(min(CHUNK_BYTES, self.size_bytes - offset))
        if not data:
            raise InvalidRequestError("The file became shorter while it was sent.", field=self.role)
        self._next = offset + len(data)
        return Piece(offset, data)

    def opened(self, told: pb.FileOpened) -> None:
        """Go on from where the server says that it is."""
        self.upload_id = told.upload_id
        self.safe_bytes = self._next = min(told.received_bytes, self.size_bytes)

    def received(self, told: pb.FileReceived) -> None:
        """Bytes that are safe."""
        self.safe_bytes = told.received_bytes
        self.is_complete = told.is_complete

    def begin_again(self) -> None:
        """A new stream: the file is started again, from what is safe."""
        self._is_started, self._next = False, None
        self.close()

    def forget(self) -> None:
        """The server has lost what had arrived."""
        self.upload_id, self.safe_bytes, self.is_complete = "", 0, False

    def close(self) -> None:
        if self._source is not None:
            self._source.close()
            self._source = None


@dataclass
class Sending:
    """Several files, one after the other."""

    files: Sequence[FileSending]
    tell: SentBytes | None = None
    _current: int = field(default=0)

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    @property
    def safe_bytes(self) -> int:
        """What a new stream need not send again."""
        return sum(file.safe_bytes for file in self.files)

    @property
    def has_sent_all(self) -> bool:
        return self._current == len(self.files)

    @property
    def is_complete(self) -> bool:
        """Whether the server has every file whole."""
        return all(file.is_complete for file in self.files)

    def next_part(self) -> Part | None:
        """What may be sent now."""
        while not self.has_sent_all:
            file = self.files[self._current]
            part = file.next_part()
            if part is not None or not file.is_sent:
                self._tell()
                return part
            file.close()
            self._current += 1
        return None

    def _tell(self) -> None:
        if self.tell is not None:
            self.tell(sum(file.sent_bytes for file in self.files), self.size_bytes)

    def opened(self, told: pb.FileOpened) -> None:
        """The server takes the file that was started last."""
        self.files[self._current].opened(told)

    def received(self, told: pb.FileReceived) -> None:
        """Bytes of a file are safe."""
        for file in self.files:
            if file.upload_id == told.upload_id:
                file.received(told)

    def begin_again(self) -> None:
        """A new stream."""
        self._current = 0
        for file in self.files:
            file.begin_again()

    def forget(self) -> None:
        """The server has lost an upload; begin from nothing."""
        for file in self.files:
            file.forget()

    def close(self) -> None:
        """Close the files."""
        for file in self.files:
            file.close()
