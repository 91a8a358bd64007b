"""Refinement climbs local correlation, and never gives back a worse field."""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from service.registration.fields import Affine, DisplacementField
from service.registration.grid import Grid
from service.registration.refine import refine
from service.registration.volume import Volume

SHAPE = (40, 36, 33)


def texture(grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """Blobs of a few voxels: something to hold on to everywhere."""
    noise = ndimage.gaussian_filter(rng.standard_normal(grid.shape), 2.0)
    return np.asarray(1000 * noise / noise.std(), dtype=np.float32)


def smooth_displacement(grid: Grid, largest_mm: float) -> np.ndarray:
    """A wave on every axis of the grid, world mm."""
    index = np.indices(grid.shape, dtype=np.float64)
    phase = [2 * np.pi * index[axis] / grid.shape[axis] for axis in range(3)]
    wave = np.stack([np.sin(phase[1]), np.sin(phase[2] + 1.0), np.cos(phase[0])], axis=-1)
    return wave * largest_mm


def test_a_known_smooth_warp_is_recovered_to_half_a_voxel(
    make_grid: Callable[..., Grid], orientation: str, rng: np.random.Generator
) -> None:
    grid = make_grid(orientation, SHAPE, (2.0, 2.0, 2.5))
    moving = texture(grid, rng)
    truth_mm = smooth_displacement(grid, 4.0)
    at = np.moveaxis(
        grid.to_voxel(grid.to_world(np.moveaxis(np.indices(SHAPE), 0, -1)) + truth_mm), -1, 0
    )
    fixed = ndimage.map_coordinates(moving, at, order=1, mode="nearest")
    found = refine(
        Volume(fixed, grid),
        Volume(moving, grid),
        Affine.identity(),
        DisplacementField.zero(grid),
        effort="best",
    )
    inner = (slice(4, -4),) * 3
    error_mm = np.linalg.norm(found.vectors_mm - truth_mm, axis=-1)[inner]
    assert error_mm.mean() < 0.5 * 2.0
