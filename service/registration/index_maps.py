"""From the voxel indices of one grid to those of another."""

import numpy as np
from jaxtyping import Float64

from service.registration.fields import Affine
from service.registration.grid import Grid

Map = Float64[np.ndarray, "3 4"]

# Products of affines miss whole numbers by rounding. Entries nearer than this are taken as whole:
# 512 voxels away that moves a sample by under 1e-6 voxel, and an identity stays one, bit for bit.
_WHOLE_SLOPE, _WHOLE_OFFSET_VOXELS = 1e-9, 1e-6


def _snapped(matrix: Float64[np.ndarray, "4 4"]) -> Map:
    whole = np.rint(matrix)
    near = np.abs(matrix - whole) < np.array([_WHOLE_SLOPE] * 3 + [_WHOLE_OFFSET_VOXELS])
    snapped: Map = np.where(near, whole, matrix)[:3]
    return snapped


def index_map(target: Grid, source: Grid, affine: Affine | None = None) -> Map:
    """Voxel indices of `target` to those of `source`, through an affine of the world if given."""
    world = target.affine if affine is None else affine.matrix @ target.affine
    return _snapped(source.inverse_affine @ world)


def vector_map(source: Grid, affine: Affine | None = None) -> Map:
    """World vectors to index vectors of `source`, turned by an affine first if given."""
    turn = np.eye(4)
    turn[:3, :3] = source.inverse_affine[:3, :3]
    if affine is not None:
        turn[:3, :3] = turn[:3, :3] @ affine.matrix[:3, :3]
    return turn[:3]
