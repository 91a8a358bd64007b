"""One label's share of each voxel of a model grid, from the part of a label map where it is.

The same values as the service's `on_grid` and `through` give for the label's indicator; labels are
small, and with a hundred of them the whole volume need not be blurred and sampled a hundred times.
"""

import math

import numpy as np

from service.registration.fields import Affine
from service.registration.grid import Grid
from service.registration.model_grid import on_grid, through
from service.registration.resample import resample
from service.registration.volume import Volume
from trainer.data.reading import Labels

Box = tuple[slice, slice, slice]
# A blur to voxels `ratio` times as wide reaches 1.7 ratio + 1 voxels.
REACH, MORE = 2.0, 3


def share_of_map(labels: Labels, label: int, grid: Grid, affine: Affine | None) -> np.ndarray:
    """The share on `grid`, (i, j, k) in [0, 1].

    Args:
        labels: A label map.
        label: Which one.
        grid: The model grid.
        affine: Fixed to moving, for labels of the moving image; None for those of the fixed one.
    """
    share = np.zeros(grid.shape, np.float32)
    if label >= len(labels.first) or (labels.last[label] < labels.first[label]).any():
        return share
    native = labels.grid
    spacing = np.maximum(native.spacing_mm, grid.spacing_mm)
    margin = [math.ceil(REACH * r) + MORE for r in spacing / native.spacing_mm]
    cut = _window(labels.first[label] - margin, labels.last[label] + margin, native.shape)
    part = Volume((labels.data[cut] == label).astype(np.float32), _cut(native, cut))
    aligned = affine is None and np.allclose(native.directions, grid.directions, atol=1e-6)
    if aligned:
        there = _reached(part.grid, grid, Affine.identity())
        share[there] = on_grid(part, _cut(grid, there)).data
        return share
    coarse = native.resampled((float(spacing[0]), float(spacing[1]), float(spacing[2])))
    if not coarse.is_same(native):
        part = on_grid(part, _cut(coarse, _reached(part.grid, coarse, Affine.identity())))
    placing = affine or Affine.identity()
    there = _reached(part.grid, grid, placing)
    share[there] = resample(part, _cut(grid, there), affine=placing).data
    return share


def share_of(volume: Volume, grid: Grid, affine: Affine | None) -> np.ndarray:
    """The same of shares that a file holds."""
    if affine is None:
        return on_grid(volume, grid).as_float32().data
    return through(volume, grid, affine, fill=0.0).data


def _window(first: np.ndarray, last: np.ndarray, shape: tuple[int, int, int]) -> Box:
    """Slices from first up to and with last, within the shape; at least one voxel each."""
    low = [min(max(int(n), 0), size - 1) for n, size in zip(first, shape, strict=True)]
    high = [min(max(int(n), 0), size - 1) for n, size in zip(last, shape, strict=True)]
    i, j, k = (slice(a, max(a, b) + 1) for a, b in zip(low, high, strict=True))
    return i, j, k


def _cut(grid: Grid, box: Box) -> Grid:
    affine = grid.affine.copy()
    affine[:3, 3] = grid.to_world(np.array([part.start for part in box], dtype=np.float64))
    i, j, k = (part.stop - part.start for part in box)
    return Grid((i, j, k), affine)


def _reached(part: Grid, grid: Grid, affine: Affine) -> Box:
    """The voxels of `grid` that the affine takes into `part`, with one more on each side."""
    edge = np.array([[(-0.5, n - 0.5)[bit] for n, bit in zip(part.shape, bits, strict=True)]
                     for bits in np.ndindex(2, 2, 2)])  # fmt: skip
    voxels = grid.to_voxel(affine.inverse().move(part.to_world(edge)))
    return _window(np.floor(voxels.min(axis=0)) - 1, np.ceil(voxels.max(axis=0)) + 1, grid.shape)
