"""A volume: voxels and where they lie."""

from dataclasses import dataclass

import numpy as np

from service.errors import BadDimensionsError, BadLabelsError, GridMismatchError
from service.registration.grid import Grid


@dataclass(frozen=True, eq=False)
class Volume:
    """A scalar image or a label map: one value a voxel, axes i, j, k as nibabel gives them.

    The array is shared, not copied; treat it as read-only.

    Raises:
        BadDimensionsError: If the array does not have the grid's shape.
    """

    data: np.ndarray
    grid: Grid

    def __post_init__(self) -> None:
        if self.data.shape != self.grid.shape:
            raise BadDimensionsError(
                f"The array has shape {self.data.shape}, its grid {self.grid.shape}."
            )

    def with_data(self, data: np.ndarray) -> "Volume":
        """The same grid with other values."""
        return Volume(data, self.grid)

    def as_float32(self) -> "Volume":
        """The same values as contiguous float32, which the kernels work on."""
        return self.with_data(np.ascontiguousarray(self.data, dtype=np.float32))


def as_label_map(volume: Volume, field: str = "labels") -> Volume:
    """The volume as a label map of unsigned whole numbers, in the smallest type that holds them.

    Raises:
        BadLabelsError: If a value is negative, not whole, or above 65535.
    """
    data = volume.data
    if not _are_whole_from_0(data):
        raise BadLabelsError(
            "A label map holds whole numbers from 0 up; these labels do not. "
            "Send the labels as integers, 0 for the background.",
            field=field,
        )
    top = int(data.max()) if data.size else 0
    if top > np.iinfo(np.uint16).max:
        raise BadLabelsError(f"Labels go up to 65535; the highest here is {top}.", field=field)
    return volume.with_data(data.astype(np.uint8 if top < 256 else np.uint16, copy=False))


def _are_whole_from_0(data: np.ndarray) -> bool:
    if data.dtype.kind in "bu":
        return True
    if data.size and not data.min() >= 0:  # NaN, too
        return False
    return data.dtype.kind == "i" or bool(np.isfinite(data).all() and (data == np.rint(data)).all())


def require_same_grid(volume: Volume, image: Volume, field: str) -> None:
    """Refuse labels or a mask that lie elsewhere than their image.

    Raises:
        GridMismatchError: If a voxel of one is off a voxel of the other by over 0.001 voxel.
    """
    if not volume.grid.is_same(image.grid):
        raise GridMismatchError(
            f"{field} must lie on the same grid as its image: "
            f"{volume.grid.shape} voxels against {image.grid.shape}, or another place in space. "
            "Resample it to the image first.",
            field=field,
        )
