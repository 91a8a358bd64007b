"""Voxels in chunks, from any byte on."""

import numpy as np
from isal import isal_zlib

from service.pb import warpline_pb2 as pb

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

    def next(self) -> pb.LiveRequest | None:
        """The next chunk; None after the last one.

        The message is filled where it lies; a chunk that is put in afterwards is copied.
        """
        if self._offset >= len(self._data):
            return None
        data = bytes(self._data[self._offset : self._offset + CHUNK_BYTES])
        request = pb.LiveRequest()
        chunk = request.chunk
        chunk.target, chunk.frame, chunk.offset = self._target, self._frame, self._offset
        chunk.data, chunk.crc32 = data, isal_zlib.crc32(data)
        self._offset += len(data)
        return request
