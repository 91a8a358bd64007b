"""What the affine alone tells about a pair: is it one, is it the right way round, is it all there.

Measured on coarse copies, before the deformation, which can make anything look a little alike.
"""

from dataclasses import asdict

from service.registration.coverage import coverage
from service.registration.fields import Affine
from service.registration.label_place import label_place
from service.registration.rivals import fits
from service.registration.scouted import Scouted
from service.registration.volume import Volume


def plausibility(
    fixed: Scouted,
    moving: Scouted,
    affine: Affine,
    fixed_labels: Volume | None = None,
    moving_labels: Volume | None = None,
) -> dict[str, float]:
    """Figures for the report, by name; what cannot be measured is left out.

    Args:
        fixed: Of a coarse copy, with the mask where it counts.
        moving: Likewise, where its header puts it.
        affine: What was found, fixed to moving.
        fixed_labels: As they were sent.
        moving_labels: Likewise.
    """
    figures: dict[str, float] = {}
    if (fit := fits(fixed, moving, affine)) is not None:
        figures |= asdict(fit)
    if (covered := coverage(fixed, moving, affine)) is not None:
        figures |= {"structure_in_view": covered.in_view, "structure_met": covered.met}
    for role, image, labels in (
        ("fixed", fixed, fixed_labels),
        ("moving", moving, moving_labels),
    ):
        if labels is not None and (place := label_place(image, labels)) is not None:
            figures[f"{role}_labels_fit"] = place.here
            figures[f"{role}_labels_fit_moved"] = place.moved
    return figures
