"""Voxels as they arrive: chunks are checked and written straight to where they stay."""

import math

import numpy as np
from isal import isal_zlib

from service.errors import (
    ChecksumMismatchError,
    ChunkOrderError,
    ChunkSizeError,
    FrameMismatchError,
    NoContrastError,
    NonFiniteVoxelsError,
)
from service.live.opening import Layout
from service.pb import warpline_pb2 as pb

LEAST_CHUNK_BYTES, MOST_CHUNK_BYTES = 256 << 10, 1 << 20


class VoxelBuffer:
    """Room for one volume. Its memory is touched only as bytes arrive, and may be used again."""

    def __init__(self, layout: Layout, name: str) -> None:
        """Make room.

        Args:
            layout: Shape and type.
            name: What the voxels are, for errors.
        """
        self.array = np.empty(layout.grid.shape, layout.dtype)
        self._bytes = self.array.reshape(-1).view(np.uint8)
        self._flat = self.array.reshape(-1)
        self._name = name
        self.clear()

    def clear(self) -> None:
        """Begin again; what was there is written over."""
        self.received = 0
        self._scanned = 0
        self._lowest, self._highest = math.inf, -math.inf

    @property
    def is_full(self) -> bool:
        return self.received == self._bytes.size

    def put(self, chunk: pb.VoxelChunk) -> None:
        """Take the next bytes.

        Values are looked at as they arrive, while they are in the cache.

        Raises:
            ChunkSizeError: If they are too few or too many for a chunk.
            ChunkOrderError: If they do not follow on the ones before.
            FrameMismatchError: If there are more than the volume has.
            ChecksumMismatchError: If they are not what was sent.
            NonFiniteVoxelsError: If one of their values is not finite.
        """
        data = chunk.data
        end = self.received + len(data)
        if chunk.offset != self.received:
            raise ChunkOrderError(
                f"A chunk of {self._name} begins at byte {chunk.offset}; byte {self.received} is "
                "next. Send chunks in order and without gaps.",
                field=self._name,
            )
        if end > self._bytes.size:
            raise FrameMismatchError(
                f"More bytes came for {self._name} than the {self._bytes.size} that its shape and "
                "type make.",
                field=self._name,
            )
        _require_size(len(data), end == self._bytes.size, self._name)
        if isal_zlib.crc32(data) != chunk.crc32:
            raise ChecksumMismatchError(
                f"The CRC-32 of a chunk of {self._name} at byte {self.received} is not that of its "
                "bytes. Send it again.",
                field=self._name,
            )
        self._bytes[self.received : end] = np.frombuffer(data, np.uint8)
        self.received = end
        self._scan()

    def require_contrast(self) -> None:
        """Refuse a full buffer of one value.

        Raises:
            NoContrastError: If all values are the same.
        """
        if self._lowest == self._highest:
            raise NoContrastError(
                f"Every voxel of {self._name} has the same value: there is nothing to align.",
                field=self._name,
            )

    def _scan(self) -> None:
        """Look at the whole values among the new bytes; a chunk may end within one."""
        until = self.received // self.array.itemsize
        if until == self._scanned:
            return
        new = self._flat[self._scanned : until]
        self._scanned = until
        lowest, highest = float(new.min()), float(new.max())
        if not (math.isfinite(lowest) and math.isfinite(highest)):
            raise NonFiniteVoxelsError(
                f"{self._name} holds values that are not finite numbers.", field=self._name
            )
        self._lowest = min(self._lowest, lowest)
        self._highest = max(self._highest, highest)


def _require_size(size: int, is_last: bool, name: str) -> None:
    if size > MOST_CHUNK_BYTES or (size < LEAST_CHUNK_BYTES and not is_last) or size == 0:
        raise ChunkSizeError(
            f"A chunk of {name} has {size} bytes. Chunks have {LEAST_CHUNK_BYTES} to "
            f"{MOST_CHUNK_BYTES} bytes; only the last one may be smaller.",
            field=name,
        )


def chunks_of(array: np.ndarray) -> list[memoryview]:
    """The bytes of a C-contiguous array, in slices of at most 1 MiB, none of them copied."""
    data = array.reshape(-1).view(np.uint8).data
    return [data[at : at + MOST_CHUNK_BYTES] for at in range(0, len(data), MOST_CHUNK_BYTES)]
