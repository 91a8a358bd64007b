"""What the affine alone tells about a pair: is it one, is it the right way round, is it all there.

Measured on coarse copies, before the deformation, which can make anything look a little alike.
"""

from dataclasses import asdict

from service.registration.coverage import coverage
from service.registration.fields import Affine
from service.registration.label_place import label_place
from service.registration.pair import Pair
from service.registration.prepared import COMPARED_VOXELS
from service.registration.resample import downsample
from service.registration.rivals import fits
from service.registration.scouted import Scouted
from service.registration.volume import Volume


def plausibility(
    pair: Pair, fixed: Volume, mask: Volume | None, affine: Affine
) -> dict[str, float]:
    """Figures for the report, by name; what cannot be measured is left out.

    Args:
        pair: As it was sent.
        fixed: A coarse copy of the fixed image.
        mask: Where the fixed image counts.
        affine: What was found, fixed to moving.
    """
    moving = pair.moving_tempering.apply(pair.moving)
    grid = pair.moving.grid.coarsened(COMPARED_VOXELS)
    here, there = Scouted(fixed, mask), Scouted(downsample(moving, grid))
    figures: dict[str, float] = {}
    if (fit := fits(here, there, affine)) is not None:
        figures |= asdict(fit)
    if (covered := coverage(here, there, affine)) is not None:
        figures |= {"structure_in_view": covered.in_view, "structure_met": covered.met}
    for role, image, labels in (
        ("fixed", here, pair.fixed_labels),
        ("moving", there, pair.moving_labels),
    ):
        if labels is not None and (place := label_place(image, labels)) is not None:
            figures[f"{role}_labels_fit"] = place.here
            figures[f"{role}_labels_fit_moved"] = place.moved
    return figures
