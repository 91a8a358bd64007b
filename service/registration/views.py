"""The three orthogonal views of a grid, as a radiologist expects them on a screen.

The patient's right is on the picture's left, anterior and superior are up; sagittal views look
from the patient's left, anterior on the left. Oblique grids are cut along their own axes and named
after the nearest anatomical ones, so no slice is ever interpolated from its neighbours.
"""

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from jaxtyping import Float
from PIL import Image

from service.registration.grid import Grid

POSITIVE, NEGATIVE = "RAS", "LPI"  # the ends of the world's axes
PLANES = {"axial": (2, 1, 0), "coronal": (1, 2, 0), "sagittal": (0, 2, 1)}  # cut, rows, columns
TALLEST_PX = 300


@dataclass(frozen=True)
class View:
    """One slice of a grid and how it lies on the picture; all world axes run from + to -."""

    name: str
    cut_axis: int
    row_axis: int
    column_axis: int
    index: int
    flips: tuple[bool, bool]  # rows, columns
    letters: tuple[str, str, str, str]  # left, right, top, bottom
    size_px: tuple[int, int]  # width, height
    shape: tuple[int, int]  # voxels: rows, columns

    def cut(self, data: np.ndarray) -> np.ndarray:
        """The slice of an `(i, j, k, ...)` array as rows and columns of the picture."""
        plane = data[(slice(None),) * self.cut_axis + (self.index,)]
        if self.row_axis > self.column_axis:
            plane = np.swapaxes(plane, 0, 1)
        rows, columns = (slice(None, None, -1 if flip else 1) for flip in self.flips)
        return np.ascontiguousarray(plane[rows, columns])

    def scaled(self, plane: np.ndarray, *, smooth: bool = True) -> Float[np.ndarray, "h w"]:
        """A cut slice at the picture's size: square pixels, physical aspect ratio."""
        image = Image.fromarray(plane.astype(np.float32))
        how = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
        return np.asarray(image.resize(self.size_px, how))

    def pixels(self, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Voxel indices along the row and column axes as picture coordinates `(x, y)`."""
        places = []
        ends = zip((columns, rows), self.flips[::-1], self.shape[::-1], self.size_px, strict=True)
        for voxels, flip, count, pixels in ends:
            along = (voxels + 0.5) * (pixels / count)
            places.append(pixels - along if flip else along)
        return places[0], places[1]


def views(
    grid: Grid, centre_voxel: tuple[int, int, int], tallest_px: int = TALLEST_PX
) -> list[View]:
    """Axial, coronal and sagittal views through a voxel, all at the same pixels per millimetre."""
    axis_of, sign_of = _nearest_anatomical(grid)
    per_mm = tallest_px / float(max(grid.extent_mm))
    return [
        _view(grid, name, [axis_of[world] for world in plane], sign_of, centre_voxel, per_mm)
        for name, plane in PLANES.items()
    ]


def _view(
    grid: Grid,
    name: str,
    axes: list[int],
    sign_of: list[bool],
    centre_voxel: tuple[int, int, int],
    per_mm: float,
) -> View:
    cut, row, column = axes
    _, world_row, world_column = PLANES[name]
    height, width = (max(1, round(float(grid.extent_mm[axis]) * per_mm)) for axis in (row, column))
    return View(
        name=name,
        cut_axis=cut,
        row_axis=row,
        column_axis=column,
        index=centre_voxel[cut],
        flips=(sign_of[row], sign_of[column]),
        letters=(
            POSITIVE[world_column],
            NEGATIVE[world_column],
            POSITIVE[world_row],
            NEGATIVE[world_row],
        ),
        size_px=(width, height),
        shape=(grid.shape[row], grid.shape[column]),
    )


def _nearest_anatomical(grid: Grid) -> tuple[list[int], list[bool]]:
    """The voxel axis of each world axis, and whether each voxel axis runs towards its + end."""
    cosines = grid.directions
    best = max(
        permutations(range(3)),
        key=lambda axes: sum(abs(float(cosines[world, axes[world]])) for world in range(3)),
    )
    towards_plus = [False] * 3
    for world, axis in enumerate(best):
        towards_plus[axis] = bool(cosines[world, axis] > 0)
    return list(best), towards_plus
