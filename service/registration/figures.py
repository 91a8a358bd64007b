"""Figures of one registration by name, as the report has them."""

import math
from typing import Literal

import numpy as np

from service.registration.label_metrics import dice
from service.registration.metrics import ncc, nmi
from service.registration.prepared import PreparedFixed
from service.registration.resample import downsample
from service.registration.volume import Volume

Figures = dict[str, float | dict[str, float] | None]
When = Literal["before", "after"]


def of_image(fixed: PreparedFixed, image: Volume, when: When) -> Figures:
    """How alike an image is to the fixed one: NCC on every voxel, LNCC and NMI on coarse copies.

    Args:
        fixed: The fixed image.
        image: On its grid, with values as kernels can take them; see `tempering`.
        when: Before the registration, or after.
    """
    coarse = downsample(image, fixed.compared.grid)
    return {
        f"ncc_{when}": ncc(fixed.image, image, fixed.mask),
        f"lncc_{when}": fixed.windows.lncc(coarse),
        f"nmi_{when}": nmi(fixed.compared, coarse, fixed.compared_mask),
    }


def of_labels(fixed: Volume, labels: Volume, when: When) -> Figures:
    """How labels overlap with the fixed ones, by label and on the mean."""
    overlaps = _of_fixed(dice(fixed, labels), fixed)
    mean = float(np.mean(list(overlaps.values() or [math.nan])))
    return {f"dice_{when}": by_name(overlaps), f"mean_dice_{when}": mean}


def by_name(by_label: dict[int, float]) -> dict[str, float]:
    """JSON's names are strings, and it has no NaN."""
    return {str(label): value for label, value in by_label.items() if math.isfinite(value)}


def _of_fixed(overlaps: dict[int, float], fixed: Volume) -> dict[int, float]:
    """Only labels that the fixed map has: the others have nothing to overlap with."""
    present = set(np.flatnonzero(np.bincount(fixed.data.ravel())).tolist())
    return {label: value for label, value in overlaps.items() if label in present}
