"""Displacement fields to warp with: random smooth ones, and shifts."""

import numpy as np
from scipy.ndimage import gaussian_filter

from service.registration.fields import DisplacementField
from service.registration.grid import Grid


def smooth_field(
    grid: Grid, rng: np.random.Generator, size_mm: float, sigma: float = 3.0
) -> DisplacementField:
    """Random displacements of up to `size_mm`, smooth over `sigma` voxels."""
    noise = [gaussian_filter(rng.standard_normal(grid.shape), sigma) for _ in range(3)]
    vectors = np.stack(noise, -1)
    return DisplacementField(vectors * size_mm / np.abs(vectors).max(), grid)


def constant_field(grid: Grid, vector_mm: tuple[float, float, float]) -> DisplacementField:
    """The same displacement everywhere."""
    vectors = np.broadcast_to(np.float32(vector_mm), (*grid.shape, 3))
    return DisplacementField(vectors, grid)
