"""Files that grow at their end, through the page cache or past it."""

import errno
import fcntl
import mmap
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

MOST_BUFFERS = 512  # of one call to the system; IOV_MAX is 1024 on Linux and macOS
# What direct writes are a multiple of, in memory and on the disk.
BLOCK_BYTES = 4096
# Of one direct write. Each thread that writes has one such buffer, however many files there are.
BUFFER_BYTES = 2 * 2**20

_local = threading.local()


class SpoolFile(Protocol):
    """A new file that is written from its start to its end."""

    def write(self, chunks: Sequence[bytes | memoryview]) -> None:
        """Write these bytes after those that are there."""
        ...

    def flush(self) -> None:
        """Onto the disk, all that has been written until now; zeros may follow it in the file."""
        ...

    def close(self) -> None: ...


def spool_file(path: Path, *, is_large: bool = False) -> SpoolFile:
    """A new file; a large one is written past the page cache, where the file system can do it.

    The cache would have to be filled and emptied once for each large file, which takes as long as
    receiving it; direct writes also leave nothing to do for `flush`.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    if is_large and hasattr(os, "O_DIRECT"):
        try:
            return DirectFile(os.open(path, flags | os.O_DIRECT, 0o600))
        except OSError as error:
            if error.errno != errno.EINVAL:  # what a file system without direct writes says
                raise
            path.unlink(missing_ok=True)
    return PlainFile(os.open(path, flags, 0o600))


class PlainFile:
    """Through the page cache."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, chunks: Sequence[bytes | memoryview]) -> None:
        left = [memoryview(chunk) for chunk in chunks if chunk]
        while left:
            written = os.writev(self._descriptor, left[:MOST_BUFFERS])
            while left and written >= len(left[0]):
                written -= len(left.pop(0))
            if written:
                left[0] = left[0][written:]

    def flush(self) -> None:
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


class DirectFile:
    """Past the page cache: whole blocks at once, the last bytes wait for more or for `flush`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._written = 0  # whole blocks only
        self._rest = b""  # what follows them
        self._lock = threading.Lock()

    def write(self, chunks: Sequence[bytes | memoryview]) -> None:
        with self._lock:
            self._write(chunks)

    def _write(self, chunks: Sequence[bytes | memoryview]) -> None:
        buffer, filled = _buffer(), len(self._rest)
        buffer[:filled] = self._rest
        for piece in _pieces(chunks, BUFFER_BYTES - filled):
            buffer[filled : filled + len(piece)] = piece
            filled += len(piece)
            if filled == BUFFER_BYTES:
                self._put(buffer, filled)
                filled = 0
        whole = filled - filled % BLOCK_BYTES
        self._put(buffer, whole)
        self._rest = bytes(buffer[whole:filled])

    def _put(self, buffer: mmap.mmap, size: int) -> None:
        with memoryview(buffer) as view:
            done = 0
            while done < size:
                done += self._pwrite(view[done:size], self._written + done)
        self._written += size

    def _pwrite(self, data: memoryview | mmap.mmap, offset: int) -> int:
        try:
            return os.pwrite(self._descriptor, data, offset)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            flags = fcntl.fcntl(self._descriptor, fcntl.F_GETFL)  # larger blocks than ours
            fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags & ~os.O_DIRECT)
            return os.pwrite(self._descriptor, data, offset)

    def flush(self) -> None:
        """The last bytes go out with zeros after them; the next write goes over both."""
        with self._lock:
            if self._rest:
                with mmap.mmap(-1, BLOCK_BYTES) as block:
                    block[: len(self._rest)] = self._rest
                    self._pwrite(block, self._written)
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        try:
            self.flush()
            os.ftruncate(self._descriptor, self._written + len(self._rest))
        finally:
            os.close(self._descriptor)


def _pieces(chunks: Sequence[bytes | memoryview], first: int) -> Iterator[memoryview]:
    """The chunks cut so that a buffer with room for `first` bytes, and then others, are filled."""
    room = first
    for chunk in chunks:
        left = memoryview(chunk)
        while left:
            piece, left = left[:room], left[room:]
            yield piece
            room = room - len(piece) or BUFFER_BYTES


def _buffer() -> mmap.mmap:
    """This thread's buffer; a mapping begins at a page, as direct writes want it."""
    if not hasattr(_local, "buffer"):
        _local.buffer = mmap.mmap(-1, BUFFER_BYTES)
    found: mmap.mmap = _local.buffer
    return found
