"""Where a request's files wait until they are stored: a folder that goes with the request."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from starlette.concurrency import run_in_threadpool

from service.gateway.limits import require_room

# Chunks of a body are gathered up to this size, so that a thread is asked once a mebibyte.
BATCH_BYTES = 2**20


@dataclass(frozen=True)
class Arrival:
    """A file that has arrived: where it lies, its size and its SHA-256."""

    path: Path
    bytes: int
    sha256: str


@dataclass
class Sink:
    """Writes a file and sums it up in the same pass."""

    path: Path
    size: int = 0
    _file: BinaryIO = field(init=False)
    _digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def __post_init__(self) -> None:
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = os.fdopen(handle, "wb", buffering=0)

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self.size += len(data)

    def close(self) -> Arrival:
        self._file.close()
        return Arrival(self.path, self.size, self._digest.hexdigest())


@dataclass(frozen=True)
class Spool:
    """The gateway's scratch space, on the data folder's disk."""

    root: Path
    min_free_mib: int

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)

    def require_room(self, wanted_bytes: int = 0) -> None:
        """Raises StorageFullError while the disk is nearly full."""
        require_room(self.root, self.min_free_mib, wanted_bytes)

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A folder that only this process reads and that is gone afterwards, errors or not."""
        made = Path(tempfile.mkdtemp(dir=self.root))
        try:
            yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)


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
