"""Cheap figures of one answer: how alike the pair is, how sane the field, how far things moved."""

import math

import numpy as np

from service.registration.alignment import Alignment
from service.registration.answering import Answer
from service.registration.carried import to_moving
from service.registration.evidence import Evidence
from service.registration.fields import Affine, DisplacementField
from service.registration.grid import Grid
from service.registration.prepared import PreparedPair
from service.registration.quality import Verdict, judge
from service.registration.regularity import overlap_fraction, regularity
from service.registration.tracked import Motion, nearest_rigid, rotation_deg

# A motion's lengths are of about this many places.
MOTION_VOXELS = 16**3
OVERLAP_VOXELS = 20**3


def judged(pair: PreparedPair, answer: Answer) -> Verdict:
    """From local correlation on coarse copies, overlap, and the regularity of the field as it is.

    An affine changes neither a field's folds nor the spread of its volume changes, so both are
    measured before it, on the field's own grid.
    """
    alignment = answer.alignment
    shape = regularity(alignment.field)
    evidence = Evidence(
        lncc_before=_known(answer.before),
        lncc_after=_known(answer.after),
        overlap_fraction=overlap_fraction(
            DisplacementField.zero(pair.fixed.grid.coarsened(OVERLAP_VOXELS)),
            pair.moving.grid,
            affine=alignment.affine,
        ),
        folding_fraction=shape.folding_fraction,
        non_diffeomorphic_volume=shape.non_diffeomorphic_volume,
        sdlogj=shape.sdlogj,
        max_deformation_mm=shape.longest_mm,
        field_of_view_mm=float(pair.fixed.grid.extent_mm.max()),
        affine_volume_change=float(np.linalg.det(alignment.affine.matrix[:3, :3])),
    )
    return judge(evidence)


def _known(similarity: float) -> float | None:
    return similarity if math.isfinite(similarity) else None


def motion(alignment: Alignment, initial: Affine, fixed: Grid) -> Motion:
    """How far things moved from where `initial` puts them; see Motion."""
    centre_mm = fixed.centre_mm
    rigid = nearest_rigid(alignment.affine @ initial.inverse(), initial.move(centre_mm))
    sample = fixed.coarsened(MOTION_VOXELS)
    places = sample.to_world(np.moveaxis(np.indices(sample.shape), 0, -1).reshape(-1, 3))
    lengths = np.linalg.norm(to_moving(alignment, places) - initial.move(places), axis=1)
    return Motion(
        shift_mm=rigid.move(initial.move(centre_mm)) - initial.move(centre_mm),
        rotation_deg=rotation_deg(rigid),
        median_mm=float(np.median(lengths)),
        max_mm=float(lengths.max()),
    )
