"""What a verdict is judged on, and what a rule finds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

Level = Literal["warn", "fail"]


class Finding(NamedTuple):
    """What one rule has found. The code is stable; the sentence is for people."""

    level: Level
    code: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was measured. Fractions are 0 to 1; None is not known.

    Before means the pair as its headers (or the given initial transform) place it. Similarities are
    best taken over the fixed foreground. NCC is only looked at where nothing better is known, since
    between modalities a good registration can lower it. `affine_scales` are the least and the most
    that a direction is stretched; the fits are explained in rivals.py, what is in view and met in
    coverage.py, the fits of labels in label_place.py.
    """

    ncc_before: float | None = None
    ncc_after: float | None = None
    lncc_before: float | None = None
    lncc_after: float | None = None
    nmi_before: float | None = None
    nmi_after: float | None = None
    overlap_fraction: float | None = None
    folding_fraction: float | None = None
    non_diffeomorphic_volume: float | None = None
    sdlogj: float | None = None
    max_deformation_mm: float | None = None
    field_of_view_mm: float | None = None
    inverse_consistency_mm: float | None = None
    affine_volume_change: float | None = None
    affine_scales: tuple[float, float] | None = None
    affine_fit: float | None = None
    turned_fit: float | None = None
    mirrored_fit: float | None = None
    affine_ncc: float | None = None
    mirrored_ncc: float | None = None
    structure_in_view: float | None = None
    structure_met: float | None = None
    fixed_labels_fit: float | None = None
    fixed_labels_fit_moved: float | None = None
    moving_labels_fit: float | None = None
    moving_labels_fit_moved: float | None = None
    mean_dice_before: float | None = None
    mean_dice_after: float | None = None
    tre_mm_before: float | None = None
    tre_mm_after: float | None = None
    label_volume_change: Mapping[str, float] | None = None
