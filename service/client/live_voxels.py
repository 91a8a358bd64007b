"""Voxels in chunks, from any byte on."""

import numpy as np
from isal import isal_zlib

from service.pb import warpline_pb2 as pb
from service.rpc.voxel_chunks import chunk_request

CHUNK_BYTES = 2**20


class VoxelSending:
    """One array on its way."""

    def __init__(
        self, target: "pb.VoxelTarget", frame: int, voxels: np.ndarray, offset: int = 0
    ) -> None:
        """Begin at a byte.

        Args:
            target: What the voxels are.
            frame: Their frame's number; 0 for the reference and what comes with it.
            voxels: C order.
            offset: The first byte that is not there yet.
        """
        self._target, self._frame = target, frame
        self._data = voxels.reshape(-1).view(np.uint8).data
        self._offset = offset

    def next(self) -> bytes | None:
        """A LiveRequest with the next chunk, as it is sent; None after the last one."""
        if self._offset >= len(self._data):
            return None
        data = self._data[self._offset : self._offset + CHUNK_BYTES]
        chunk = pb.VoxelChunk(
            target=self._target,
            frame=self._frame,
            offset=self._offset,
            crc32=isal_zlib.crc32(data),
        )
        self._offset += len(data)
        return chunk_request(chunk, data)
