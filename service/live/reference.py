"""The reference and what comes with it, as it is sent: image, labels, mask, in this order."""

import numpy as np

from service.errors import BadLabelsError, ChunkOrderError
from service.live.buffers import VoxelBuffer
from service.live.opening import Layout, Opening
from service.pb import warpline_pb2 as pb
from service.registration.grid import Grid
from service.registration.tracked import Reference
from service.registration.volume import Volume, as_label_map


class ReferenceUpload:
    """Takes the voxels that come before the first frame. What has arrived outlives a connection."""

    def __init__(self, opening: Opening) -> None:
        """Make room for what was announced."""
        self._opening = opening
        self._before = 0
        parts: list[tuple[int, str, Layout | None]] = [
            (pb.VOXEL_TARGET_REFERENCE, "reference", opening.reference),
            (pb.VOXEL_TARGET_LABELS, "labels", opening.labels),
            (pb.VOXEL_TARGET_MASK, "mask", opening.mask),
        ]
        self._parts = [
            (target, VoxelBuffer(layout, name)) for target, name, layout in parts if layout
        ]

    @property
    def received(self) -> int:
        """Bytes of all parts together that have come."""
        return self._before + sum(buffer.received for _, buffer in self._parts)

    @property
    def is_complete(self) -> bool:
        """Whether all has come; it may have been given away since."""
        return self.received == self._opening.reference_bytes

    def release(self) -> None:
        """Hold the voxels no longer."""
        self._before, self._parts = self.received, []

    def take(self, chunk: pb.VoxelChunk) -> bool:
        """Take the next bytes; whether all are here now. Raises as `VoxelBuffer.put` does.

        Raises:
            ChunkOrderError: If another part is next, or none.
            NoContrastError: If the reference is whole and of one value.
        """
        target, buffer = next(((t, b) for t, b in self._parts if not b.is_full), (None, None))
        if buffer is None or chunk.target != target:
            raise ChunkOrderError(
                "Send the voxels of the reference, then its labels, then its mask, each as it was "
                "announced, and then frames.",
                field="target",
            )
        buffer.put(chunk)
        if buffer.is_full and target == pb.VOXEL_TARGET_REFERENCE:
            buffer.require_contrast()
        return self.is_complete

    def reference(self) -> Reference:
        """All of it, once it is complete.

        Raises:
            BadLabelsError: If a label is negative or above 65535, or nothing is in the mask.
        """
        arrays = {target: buffer.array for target, buffer in self._parts}
        grid = self._opening.reference.grid
        return Reference(
            image=Volume(arrays[pb.VOXEL_TARGET_REFERENCE], grid),
            labels=_labels(arrays.get(pb.VOXEL_TARGET_LABELS), grid),
            mask=_mask(arrays.get(pb.VOXEL_TARGET_MASK), grid),
            points=self._opening.points,
            initial=self._opening.initial,
        )


def _labels(array: np.ndarray | None, grid: Grid) -> Volume | None:
    return None if array is None else as_label_map(Volume(array, grid), "labels")


def _mask(array: np.ndarray | None, grid: Grid) -> Volume | None:
    if array is None:
        return None
    inside = (array != 0).astype(np.uint8)
    if not inside.any():
        raise BadLabelsError("The mask is empty: nowhere does the reference count.", field="mask")
    return Volume(inside, grid)
