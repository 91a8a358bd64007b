"""What a tracker is given and what it gives: a reference, what is wanted, an answer a frame."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float16, Float64

from service.registration.fields import Affine, DisplacementField
from service.registration.grid import Grid
from service.registration.points import WorldPoints
from service.registration.quality import Verdict
from service.registration.volume import Volume

Role = Literal["fixed", "moving"]
FieldWanted = Literal["none", "full", "half"]


@dataclass(frozen=True, eq=False)
class Reference:
    """What every frame is registered to. Labels and mask lie on the image's grid.

    `initial` is where frame and reference lie to each other before anything is looked for: fixed
    world to moving world, whichever of the two the reference is.
    """

    image: Volume
    labels: Volume | None = None
    mask: Volume | None = None
    points: WorldPoints | None = None
    initial: Affine = field(default_factory=Affine.identity)


@dataclass(frozen=True)
class Wanted:
    """What an answer brings besides transform, figures and verdict; the rest is not computed.

    `half` is the field on every second voxel, see `half_grid`. `rigid_only` looks for a rigid
    motion and for no deformation.
    """

    field: FieldWanted = "full"
    warped_image: bool = False
    warped_labels: bool = False
    points: bool = False
    rigid_only: bool = False


@dataclass(frozen=True, eq=False)
class Motion:
    """How far things have moved from where the headers and the initial transform put them.

    `shift_mm` and `rotation_deg` are of the rigid part, about the fixed field of view's centre;
    `median_mm` and `max_mm` are lengths of the whole displacement, over a sample of the voxels.
    """

    shift_mm: Float64[np.ndarray, "3"]
    rotation_deg: float
    median_mm: float
    max_mm: float


@dataclass(frozen=True)
class Calibration:
    """What a step takes on this machine, measured: half of all steps, 95 of 100.

    `cold_s` is what one takes that has no frame before it, or cannot use it.
    """

    p50_s: float
    p95_s: float
    cold_s: float


@dataclass(frozen=True, eq=False)
class Tracked:
    """The answer to one frame.

    Args:
        affine: Fixed to moving world; the field is composed with it.
        rigid: The rigid motion nearest to `affine`, about the fixed grid's centre.
        field: The whole transform, affine included: on the fixed grid or on every second voxel of
            it, as wanted; see `in_half_precision` for sending it in two bytes a number.
        warped_image: The moving image on the fixed grid.
        warped_labels: The moving labels on the fixed grid.
        points: The reference's points in the frame's space.
        stages: Name and seconds of what was done, in order.
        verdict: From cheap measures, by the thresholds of `quality.judge`.
        motion: How far things have moved.
        similarity_before: Local correlation where the headers and the initial transform put the
            pair, 0 to 1; nan where there is nothing to compare.
        similarity_after: The same under the answer.
        is_cut_short: Whether the budget ended the work before it was done.
        is_warm: Whether the answer to the frame before was the start.
        steps: Steps of refinement.
        warnings: What is to be known besides the verdict's reasons.
    """

    affine: Affine
    rigid: Affine
    field: DisplacementField | None
    warped_image: Volume | None
    warped_labels: Volume | None
    points: WorldPoints | None
    stages: tuple[tuple[str, float], ...]
    verdict: Verdict
    motion: Motion
    similarity_before: float
    similarity_after: float
    is_cut_short: bool = False
    is_warm: bool = False
    steps: int = 0
    warnings: tuple[str, ...] = ()


def half_grid(grid: Grid) -> Grid:
    """Every second voxel along each axis, beginning with the first."""
    i, j, k = ((n + 1) // 2 for n in grid.shape)
    affine = grid.affine.copy()
    affine[:3, :3] *= 2
    return Grid((i, j, k), affine)


def in_half_precision(field: DisplacementField) -> Float16[np.ndarray, "i j k 3"]:
    """The vectors in two bytes a number, mm, RAS+, rounded to the nearest.

    A displacement below 32 mm is off by at most 0.008 mm, one below 256 mm by 0.063 mm. Beyond
    65504 mm the nearest number that there is.
    """
    top = float(np.finfo(np.float16).max)
    vectors = field.vectors_mm
    if np.abs(vectors).max(initial=0.0) > top:
        vectors = np.clip(vectors, -top, top)
    return vectors.astype(np.float16)


def nearest_rigid(affine: Affine, centre_mm: Float64[np.ndarray, "3"]) -> Affine:
    """The rotation nearest to the affine's linear part, and the shift that the centre makes.

    Source: Arun et al., Least-squares fitting of two 3-D point sets, PAMI 1987: U diag(1, 1, det) V
    of the singular value decomposition.
    """
    left, _, right = np.linalg.svd(affine.matrix[:3, :3])
    left[:, 2] *= np.sign(np.linalg.det(left @ right))
    matrix = np.eye(4)
    matrix[:3, :3] = left @ right
    matrix[:3, 3] = affine.move(centre_mm) - matrix[:3, :3] @ centre_mm
    return Affine(matrix)


def rotation_deg(rigid: Affine) -> float:
    """The angle by which a rigid motion turns about its axis."""
    turn = rigid.matrix[:3, :3]
    across = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
    return float(np.degrees(np.arctan2(np.linalg.norm(across), np.trace(turn) - 1)))
