"""How a field bends space: Jacobian determinants, folding, and how far it moves things."""

import math
from dataclasses import dataclass

import numpy as np

from service.registration.fields import Affine, DisplacementField
from service.registration.grid import Grid
from service.registration.kernels import jacobian as passes
from service.registration.resample import compose
from service.registration.volume import Volume

# Measures on points take every n-th voxel along each axis, up to this many in all.
SAMPLE_COUNT = 32_768


@dataclass(frozen=True, eq=False)
class Regularity:
    """What one pass over a field's derivative tells; fractions are of the voxels in the mask.

    `longest_mm` is the longest displacement of all.
    """

    determinants: Volume
    folding_fraction: float
    non_diffeomorphic_volume: float
    sdlogj: float
    longest_mm: float


def regularity(field: DisplacementField, mask: Volume | None = None) -> Regularity:
    """The derivative of x + u(x): det(I + du/dx), world millimetres, any direction or handedness.

    - determinants: central differences, one-sided at the border.
    - folding_fraction: share of voxels with determinant <= 0.
    - non_diffeomorphic_volume: the volume by which simplices between voxel centres are turned
      inside out, over the volume of all voxels. It sees folds that central differences miss.
    - sdlogj: standard deviation of the determinant's logarithm, clipped to [1e-9, 1e9].

    For an empty mask the fractions and sdlogj are nan.

    Source: Liu et al., On finite difference Jacobian computation in deformable image registration,
        IJCV 2024, section 3.4 (ten finite differences for each voxel; the field goes on beyond the
        border as it is there).
    """
    shape = field.grid.shape
    inside = np.ones(shape, bool) if mask is None else np.ascontiguousarray(mask.data != 0)
    determinants = np.empty(shape, np.float32)
    sums = np.zeros((shape[0], passes.STATISTICS))
    edges = np.ascontiguousarray(field.grid.affine[:3, :3].T, dtype=np.float32)
    passes.jacobian(field.vectors_mm, edges, inside, determinants, sums)
    total = sums.sum(axis=0)
    count = total[passes.COUNT] or math.nan
    mean = total[passes.LOG] / count
    variance = total[passes.LOG_SQUARED] / count - mean**2
    return Regularity(
        determinants=Volume(determinants, field.grid),
        folding_fraction=float(total[passes.FOLDED] / count),
        non_diffeomorphic_volume=float(total[passes.LOST] / count),
        sdlogj=float(np.sqrt(np.maximum(variance, 0.0))),
        longest_mm=float(np.sqrt(sums[:, passes.LONGEST].max())),
    )


def max_displacement_mm(field: DisplacementField) -> float:
    """The length of the longest displacement."""
    x, y, z = np.moveaxis(field.vectors_mm, -1, 0)
    return float(np.sqrt((x * x + y * y + z * z).max()))


def _sampled(field: DisplacementField) -> DisplacementField:
    """A regular choice of the field's voxels."""
    grid = field.grid
    stride = max(1, math.ceil((grid.voxel_count / SAMPLE_COUNT) ** (1 / 3)))
    first = [(n - 1) % stride // 2 for n in grid.shape]
    chosen = tuple(slice(at, n, stride) for at, n in zip(first, grid.shape, strict=True))
    vectors = field.vectors_mm[chosen]
    affine = grid.affine.copy()
    affine[:3, :3] *= stride
    affine[:3, 3] = grid.to_world(np.array(first))
    return DisplacementField(vectors, Grid(vectors.shape[:3], affine))


def _moved(field: DisplacementField) -> np.ndarray:
    """Where the field takes its voxels: world positions, (i, j, k, 3)."""
    index = np.moveaxis(np.indices(field.grid.shape), 0, -1)
    return np.asarray(field.grid.to_world(index) + field.vectors_mm)


def inverse_consistency_mm(forward: DisplacementField, backward: DisplacementField) -> float:
    """Mean distance of a fixed point from itself, there by `forward` and back by `backward`.

    Over a regular sample of forward's voxels, less those that leave backward's grid; nan if all do.
    """
    sample = _sampled(forward)
    kept = backward.grid.contains(_moved(sample))
    if not kept.any():
        return math.nan
    missed = compose(backward, sample).vectors_mm[kept]
    return float(np.linalg.norm(missed, axis=-1).mean(dtype=np.float64))


def overlap_fraction(
    field: DisplacementField, moving: Grid, *, affine: Affine | None = None
) -> float:
    """Share of the field's voxels that A(x + u(x)) takes into the moving field of view."""
    moved = _moved(_sampled(field))
    if affine is not None:
        moved = affine.move(moved)
    return float(moving.contains(moved).mean())
