"""Gaussian smoothing, and coarser grids of the same axes without aliasing."""

import math
from functools import lru_cache

import numpy as np
from jaxtyping import Float32, Float64

from service.registration.grid import Grid
from service.registration.index_maps import Map
from service.registration.kernels.filters import filter_axes
from service.registration.volume import Volume

# Where a Gaussian is cut off, in standard deviations; beyond lies 6e-5 of it.
TRUNCATE_SIGMAS = 4.0

# Full width at half maximum of a Gaussian, over its standard deviation.
_WIDTH_OVER_SIGMA = 2 * math.sqrt(2 * math.log(2))

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _table(
    centres: Float64[np.ndarray, "n"], count: int, sigma: float, *, linear: bool, margin: float = 0
) -> tuple[np.ndarray, np.ndarray]:
    """For each centre, in voxels, the first voxel it draws on and the weights, which sum to 1.

    Weights that would fall outside are left out and the others scaled up. A centre further out than
    the edge and a margin has no weights.
    """
    reach = TRUNCATE_SIGMAS * sigma + (1.0 if linear else 0.0)
    taps = min(count, 2 * math.ceil(reach) + 1)
    beyond = (centres < -0.5 - margin) | (centres > count - 0.5 + margin)
    centres = np.clip(centres, 0, count - 1)
    starts = np.clip(np.rint(centres).astype(np.int64) - taps // 2, 0, count - taps)
    distance = starts[:, None] + np.arange(taps) - centres[:, None]
    weights = _smoothed_hat(distance, sigma) if linear else _bell(distance, sigma)
    weights /= weights.sum(axis=1, keepdims=True)
    weights[beyond] = 0
    return starts, weights.astype(np.float32)


def _bell(x: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian; for sigma 0 the voxel itself."""
    if sigma <= 0:
        return np.asarray(x == 0, dtype=np.float64)
    bell: np.ndarray = np.exp(-0.5 * (x / sigma) ** 2)
    return bell


def _smoothed_hat(x: np.ndarray, sigma: float) -> np.ndarray:
    """Linear interpolation of what a Gaussian has smoothed, as one weight: hat * Gaussian.

    Along its last axis x goes up by ones. Second difference of the integral of the Gaussian's
    integral; at sigma 0 the hat itself.
    """
    if sigma < 1e-3:
        hat: np.ndarray = np.maximum(0.0, 1 - np.abs(x))
        return hat
    y = np.concatenate([x[:, :1] - 1, x, x[:, -1:] + 1], axis=1)
    z = y / sigma
    bell = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    ramp = sigma * bell + y * 0.5 * (1 + _erf(z / math.sqrt(2)))
    weight: np.ndarray = np.maximum(np.diff(ramp, n=2, axis=1), 0.0)
    return weight


def _filtered(volume: Volume, tables: list[tuple[np.ndarray, np.ndarray]], grid: Grid) -> Volume:
    out = np.empty(grid.shape, np.float32)
    starts, weights = zip(*tables, strict=True)
    filter_axes(volume.as_float32().data, starts, weights, out)
    return Volume(out, grid)


def smooth(volume: Volume, sigma_mm: float) -> Volume:
    """A Gaussian blur of the same width in millimetres along each axis.

    At the border the weights that fall outside are left out and the others scaled up, so a constant
    stays constant. Cut off at 4 sigma.

    Args:
        volume: Any real type; the result is float32.
        sigma_mm: Standard deviation; 0 leaves the values as they are.
    """
    if sigma_mm <= 0:
        return volume.as_float32()
    grid = volume.grid
    sigmas = sigma_mm / grid.spacing_mm
    tables = [
        _table(np.arange(count, dtype=np.float64), count, float(sigma), linear=False)
        for count, sigma in zip(grid.shape, sigmas, strict=True)
    ]
    return _filtered(volume, tables, grid)


def box_mean(data: Float32[np.ndarray, "i j k"], radius: int) -> Float32[np.ndarray, "i j k"]:
    """The mean over the (2 radius + 1)^3 voxels around each, fewer at the border."""
    tables = [_box(count, radius) for count in data.shape]
    out = np.empty_like(data)
    starts, weights = zip(*tables, strict=True)
    filter_axes(data, starts, weights, out)
    return out


def _box(count: int, radius: int) -> tuple[np.ndarray, np.ndarray]:
    """For each voxel of a line, the first one it draws on and the equal weights."""
    taps = min(count, 2 * radius + 1)
    index = np.arange(count)
    starts = np.clip(index - radius, 0, count - taps)
    near = np.abs(starts[:, None] + np.arange(taps) - index[:, None]) <= radius
    weights = near / near.sum(axis=1, keepdims=True)
    return starts, weights.astype(np.float32)


def antialias_sigma(ratio: float) -> float:
    """The blur, in source voxels, that widens a voxel `ratio` times; none when it gets smaller."""
    return math.sqrt(max(ratio**2 - 1, 0.0)) / _WIDTH_OVER_SIGMA


def shrink(volume: Volume, grid: Grid, to_source: Map) -> Volume:
    """The volume on a coarser grid of the same axes; see `downsample`."""
    tables = [
        _shrinking(
            float(to_source[axis, 3]),
            float(to_source[axis, axis]),
            grid.shape[axis],
            volume.grid.shape[axis],
        )
        for axis in range(3)
    ]
    return _filtered(volume, tables, grid)


@lru_cache(maxsize=32)
def _shrinking(
    first: float, ratio: float, length: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The table of an axis: so many voxels from `first` on, each `ratio` source voxels apart.

    Kept, since one registration brings several images from one grid to another.
    """
    centres = first + ratio * np.arange(length)
    return _table(centres, count, antialias_sigma(ratio), linear=True, margin=ratio / 2)
