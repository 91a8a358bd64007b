"""The same volume at another spacing, on its own axes: coarser without aliasing, finer linearly."""

import numpy as np

from service.registration.grid import Grid
from service.registration.kernels.pyramid import reduce_last, reduce_rows
from service.registration.volume import Volume

# Of the ratio of the spacings: the usual compromise between aliasing and blur.
SIGMA_PER_RATIO = 0.42
# A spacing that is less than this much coarser is not worth an interpolation.
NEARLY_SAME = 1.05


def coarser(volume: Volume, spacing_mm: float) -> Volume:
    """The volume on its own axes with a spacing of at least `spacing_mm`, smoothed beforehand.

    An axis that is already as coarse keeps its voxels. A Gaussian of 0.42 ratio is sampled at the
    new voxels' places, one axis after the other; at the border the weights are renormalised.
    """
    native = volume.grid.spacing_mm
    wanted = np.where(spacing_mm < NEARLY_SAME * native, native, spacing_mm)
    if (wanted == native).all():
        return volume.as_float32()
    grid = volume.grid.resampled((float(wanted[0]), float(wanted[1]), float(wanted[2])))
    data = np.ascontiguousarray(volume.data, dtype=np.float32)
    for axis in range(3):
        if wanted[axis] != native[axis]:
            data = _along(data, axis, *_gaussian_weights(volume.grid, grid, axis))
    return Volume(data, grid)


def even_spacings(grid: Grid, spacing_mm: float) -> np.ndarray:
    """Spacings (3,) of about `spacing_mm` along all axes; an axis of one voxel keeps its own."""
    native = grid.spacing_mm
    is_near = (native > spacing_mm / NEARLY_SAME) & (native < spacing_mm * NEARLY_SAME)
    return np.where(is_near | (np.array(grid.shape) == 1), native, spacing_mm)


def even(volume: Volume, spacing_mm: float) -> Volume:
    """The volume on its own axes with `even_spacings`: `coarser`, and finer axes linear.

    Thick slices are interpolated, so that a window, a blur and a step are as long in mm along each
    axis.
    """
    volume = coarser(volume, spacing_mm)
    wanted = even_spacings(volume.grid, spacing_mm)
    if (wanted == volume.grid.spacing_mm).all():
        return volume
    grid = volume.grid.resampled((float(wanted[0]), float(wanted[1]), float(wanted[2])))
    return Volume(carried_over(volume.data, volume.grid, grid), grid)


def carried_over(
    data: np.ndarray,
    old: Grid,
    new: Grid,
    *,
    scale: float = 1.0,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Values on one grid at the voxels of another with the same axes, linear, clamped; float32.

    Times `scale`, into `out` if it is given.
    """
    for axis in (0, 1):
        data = _along(data, axis, *_linear_weights(old, new, axis))
    start, weights = _linear_weights(old, new, 2)
    return _along(data, 2, start, weights * np.float32(scale), out)


def have_same_axes(first: Grid, second: Grid) -> bool:
    """Whether the axes of the two point the same way, whatever spacing and origin."""
    return bool(np.allclose(first.directions, second.directions, atol=1e-6))


def _places(old: Grid, new: Grid, axis: int) -> np.ndarray:
    """Indices of the new grid's voxels on the old grid, along one axis."""
    index = np.zeros((new.shape[axis], 3))
    index[:, axis] = np.arange(new.shape[axis])
    places: np.ndarray = old.to_voxel(new.to_world(index))[:, axis]
    return places


def _gaussian_weights(fine: Grid, coarse: Grid, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """First voxel and normalised weights of each coarse voxel along one axis."""
    ratio = float(coarse.spacing_mm[axis] / fine.spacing_mm[axis])
    n, centre = fine.shape[axis], _places(fine, coarse, axis)
    sigma = SIGMA_PER_RATIO * ratio
    taps = min(n, 2 * int(np.ceil(2.5 * sigma)))
    start = np.clip(np.floor(centre).astype(np.int64) - taps // 2 + 1, 0, n - taps)
    distance = start[:, None] + np.arange(taps) - centre[:, None]
    # The small addend keeps the sum above 0 where a coarse voxel's centre lies outside.
    weights = np.exp(-0.5 * (distance / sigma) ** 2) + 1e-12
    return start, (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _linear_weights(old: Grid, new: Grid, axis: int) -> tuple[np.ndarray, np.ndarray]:
    n = old.shape[axis]
    place = np.clip(_places(old, new, axis), 0, n - 1)
    start = np.minimum(place.astype(np.int64), max(n - 2, 0))
    share = place - start
    weights = np.stack([1 - share, share], axis=1) if n > 1 else np.ones((len(place), 1))
    return start, weights.astype(np.float32)


def _along(
    data: np.ndarray,
    axis: int,
    start: np.ndarray,
    weights: np.ndarray,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Weighted sums of a few voxels along one axis."""
    shape = list(data.shape)
    shape[axis] = len(start)
    out = np.empty(shape, np.float32) if out is None else out
    if axis == 2:
        reduce_last(data.reshape(-1, data.shape[2]), start, weights, out.reshape(-1, len(start)))
    elif axis == 1:
        reduce_rows(data, start, weights, out)
    else:
        flat = data.reshape(1, data.shape[0], -1)
        reduce_rows(flat, start, weights, out.reshape(1, len(start), -1))
    return out
