"""How a field bends space: Jacobian determinants, folding, and how far it moves things."""

import math
from dataclasses import dataclass

import numpy as np

from service.registration.fields import Affine, DisplacementField
from service.registration.grid import Grid
from service.registration.kernels import jacobian as passes
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
    squared = np.einsum("ijkc,ijkc->ijk", field.vectors_mm, field.vectors_mm)
    return float(np.sqrt(squared.max()))


def _sampled(field: DisplacementField) -> tuple[np.ndarray, np.ndarray]:
    """World positions of a regular choice of voxels, (n, 3), and where the field takes them."""
    grid = field.grid
    stride = max(1, math.ceil((grid.voxel_count / SAMPLE_COUNT) ** (1 / 3)))
    chosen = tuple(slice((n - 1) % stride // 2, n, stride) for n in grid.shape)
    axes = np.meshgrid(
        *(np.arange(n)[part] for n, part in zip(grid.shape, chosen, strict=True)), indexing="ij"
    )
    points: np.ndarray = np.asarray(grid.to_world(np.stack(axes, -1).reshape(-1, 3)))
    return points, points + field.vectors_mm[chosen].reshape(-1, 3)


def inverse_consistency_mm(forward: DisplacementField, backward: DisplacementField) -> float:
    """Mean distance of a fixed point from itself, there by `forward` and back by `backward`.

    Over a regular sample of forward's voxels, less those that leave backward's grid; nan if all do.
    """
    points, there = _sampled(forward)
    kept = backward.grid.contains(there)
    if not kept.any():
        return math.nan
    back = backward.move(there[kept])
    return float(np.linalg.norm(back - points[kept], axis=1).mean())


def overlap_fraction(
    field: DisplacementField, moving: Grid, *, affine: Affine | None = None
) -> float:
    """Share of the field's voxels that A(x + u(x)) takes into the moving field of view."""
    _, moved = _sampled(field)
    if affine is not None:
        moved = affine.move(moved)
    return float(moving.contains(moved).mean())
