"""The grid that a network sees a pair on, and how images get there.

A network in 3-D works on cubes, one of slices (`ndim` 2) on the squares of one slice: along k
there is one voxel then, as thick as the fixed image's.
"""

import numpy as np

from service.errors import InvalidPairError
from service.registration.card import ModelGrid
from service.registration.fields import Affine
from service.registration.grid import Grid
from service.registration.resample import downsample, resample
from service.registration.volume import Volume

FINEST_TOLERANCE = 1.05


def model_grid(rule: ModelGrid, fixed: Grid, ndim: int = 3) -> Grid:
    """The grid that a card derives from a fixed image's, before padding.

    Isotropic along the axes that the network sees; it covers the fixed field of view (its bounding
    box, for axes of the world).

    Raises:
        InvalidPairError: If the network sees slices and the fixed image is not one.
    """
    if ndim == 2 and fixed.shape[2] != 1:
        raise InvalidPairError(
            "This model registers single slices: the fixed image must have one voxel along its "
            f"third axis and has {fixed.shape[2]}. Send one slice, or choose another model.",
            field="fixed",
        )
    frame = fixed if rule.orientation == "fixed" else _ras_box(fixed)
    if rule.spacing_mm is not None:
        spacing = rule.spacing_mm
    else:
        wanted = rule.voxels or rule.max_voxels
        coarse = float(np.prod(frame.extent_mm[:ndim]) / wanted) ** (1 / ndim)
        finest = float(fixed.spacing_mm[:ndim].min())
        spacing = finest if coarse < finest * FINEST_TOLERANCE else coarse
    grid = _cut(frame, spacing, ndim)
    while grid.voxel_count > rule.max_voxels:
        spacing *= max(1.01, (grid.voxel_count / rule.max_voxels) ** (1 / ndim))
        grid = _cut(frame, spacing, ndim)
    return grid


def _cut(frame: Grid, spacing_mm: float, ndim: int) -> Grid:
    """The frame's field of view in cubes, or in squares of its thickness."""
    through = spacing_mm if ndim == 3 else float(frame.extent_mm[2])
    return frame.resampled((spacing_mm, spacing_mm, through))


def _ras_box(grid: Grid) -> Grid:
    """One voxel along the world's axes that holds the whole field of view."""
    half = np.abs(grid.affine[:3, :3]) @ (np.array(grid.shape) / 2)
    affine = np.diag([*(2 * half), 1.0])
    affine[:3, 3] = grid.centre_mm
    return Grid((1, 1, 1), affine)


def output_grid(grid: Grid, stride: int, ndim: int = 3) -> Grid:
    """The grid of the output cells that hold at least one voxel of the model grid.

    Cell c covers voxels stride * c ... stride * c + stride - 1 along each axis that the network
    sees; its centre is the middle of these.
    """
    strides = np.array([stride] * ndim + [1] * (3 - ndim))
    i, j, k = (-(-n // step) for n, step in zip(grid.shape, strides.tolist(), strict=True))
    affine = grid.affine.copy()
    affine[:3, :3] *= strides
    affine[:3, 3] = grid.to_world((strides - 1) / 2)
    return Grid((i, j, k), affine)


def world_affine(matrix: np.ndarray, shape: tuple[int, ...], grid: Grid) -> np.ndarray:
    """A network's matrix about the centre of what it saw, as a 4x4 map of the world.

    y = M (x - c) + t + c in voxels, c = (n - 1) / 2; with G from voxels to the world, G y G^-1.

    Args:
        matrix: (d, d + 1): M, then t. A network of slices leaves the third axis alone.
        shape: n, padding included; d sizes.
        grid: The model grid, of which voxel 0 is the first of what the network saw.
    """
    ndim = len(shape)
    centre = (np.array(shape, dtype=np.float64) - 1) / 2
    linear, shift = matrix[:, :ndim].astype(np.float64), matrix[:, ndim].astype(np.float64)
    in_voxels = np.eye(4)
    in_voxels[:ndim, :ndim] = linear
    in_voxels[:ndim, 3] = shift + centre - linear @ centre
    return np.asarray(grid.affine @ in_voxels @ grid.inverse_affine)


def on_grid(volume: Volume, grid: Grid) -> Volume:
    """The volume on a grid that covers its field of view, blurred first where that is coarser."""
    if volume.grid.is_same(grid):
        return volume.as_float32()
    if np.allclose(volume.grid.directions, grid.directions, atol=1e-6):
        return downsample(volume, grid)
    return through(volume, grid, Affine.identity())


def through(moving: Volume, grid: Grid, initial: Affine, fill: float | None = None) -> Volume:
    """moving(A x) on the model grid, blurred first where that is coarser.

    What lies outside the moving volume takes `fill`, by default its lowest value.
    """
    return laid_on(no_finer(moving, grid), grid, initial, fill)


def no_finer(moving: Volume, grid: Grid) -> Volume:
    """The moving volume on its own axes, blurred and coarsened to the model grid's spacing."""
    spacing = np.maximum(moving.grid.spacing_mm, grid.spacing_mm)
    coarse = moving.grid.resampled((float(spacing[0]), float(spacing[1]), float(spacing[2])))
    return on_grid(moving, coarse)


def laid_on(coarse: Volume, grid: Grid, initial: Affine, fill: float | None = None) -> Volume:
    """As `through`, of a volume that is `no_finer` than the grid."""
    outside = float(coarse.data.min()) if fill is None else fill
    return resample(coarse, grid, affine=initial, fill=outside)
