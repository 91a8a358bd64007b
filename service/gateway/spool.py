"""Where a request's files wait until they are stored: a folder that goes with the request."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from service.gateway.leftovers import HeldFolders
from service.gateway.limits import require_room
from service.gateway.spool_files import SpoolFile, spool_file
from service.stores.local_blobs import full_disk_told

# Chunks of a body are gathered up to this size, so that a thread is asked once a mebibyte.
BATCH_BYTES = 2**20
# Smaller files are soon read again, from the page cache.
LARGE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Arrival:
    """A file that has arrived: where it lies, its size and its SHA-256."""

    path: Path
    bytes: int
    sha256: str


@dataclass
class Sink:
    """Writes a file and sums it up in the same pass; `expected` is its size, if that is known."""

    path: Path
    size: int = 0
    expected: int = 0
    _file: SpoolFile = field(init=False)
    _digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def __post_init__(self) -> None:
        self._file = spool_file(self.path, is_large=self.expected >= LARGE_BYTES)

    def write(self, *chunks: bytes | memoryview) -> None:
        """Write these bytes after those that are there, and sum them up.

        Raises:
            StorageFullError: If the disk is full.
        """
        self.sum_up(chunks)
        self.put(chunks)

    def sum_up(self, chunks: Sequence[bytes | memoryview]) -> None:
        """The half of `write` that takes the processor; it may run beside `put`."""
        for chunk in chunks:
            self._digest.update(chunk)

    def put(self, chunks: Sequence[bytes | memoryview]) -> None:
        """The half of `write` that waits for the disk."""
        with full_disk_told():
            self._file.write(chunks)
        self.size += sum(map(len, chunks))

    def flush(self) -> None:
        """Onto the disk, all that has been written until now."""
        with full_disk_told():
            self._file.flush()

    def close(self) -> Arrival:
        with full_disk_told():
            self._file.close()
        return Arrival(self.path, self.size, self._digest.hexdigest())


class Spool:
    """The gateway's scratch space, on the data folder's disk."""

    def __init__(self, root: Path, min_free_mib: int) -> None:
        """Make the folder if it is not there."""
        self.root = root
        self.min_free_mib = min_free_mib
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folders = HeldFolders(root)

    def require_room(self, wanted_bytes: int = 0) -> None:
        """Raises StorageFullError while the disk is nearly full."""
        require_room(self.root, self.min_free_mib, wanted_bytes)

    def folder(self) -> AbstractContextManager[Path]:
        """A folder that only this process reads and that is gone afterwards, errors or not."""
        return self._folders.folder()


async def pour(stream: AsyncIterator[bytes], sink: Sink) -> None:
    """Write a stream to a file. When the stream breaks, all that arrived is in the file."""
    gathered = bytearray()
    try:
        async for chunk in stream:
            gathered += chunk
            if len(gathered) >= BATCH_BYTES:
                whole, gathered = bytes(gathered), bytearray()
                await run_in_threadpool(sink.write, whole)
    finally:
        await run_in_threadpool(sink.write, bytes(gathered))
