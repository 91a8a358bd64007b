"""Did it work? A verdict on one registration, from what can be measured without knowing the truth.

Each rule looks at one kind of evidence and may find a reason to warn or to fail; evidence that is
missing is not judged. The thresholds are coarse on purpose: a failure should be beyond dispute, and
what is merely unusual is a warning.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Literal

from service.registration.evidence import Evidence, Finding, Level
from service.registration.suspicions import SUSPICIONS

Status = Literal["pass", "warn", "fail"]

# Similarity that drops by less than this share is what interpolation costs a pair that was aligned
# from the start: half a voxel of blur takes up to a tenth of LNCC, and a little more of NMI's
# excess over 1.
SIMILARITY_LOSS_SHARE = 0.15

# Squared LNCC of two images that have nothing to do with each other: 0.01 for white noise, 0.11 for
# smooth noise in windows of 5 voxels, 0.15 for a brain on its own mirror image upside down.
UNRELATED_LNCC, WEAK_LNCC = 0.12, 0.18
# Brains 20 mm apart have a masked NMI of 1.008, upside down 1.016, of two people aligned 1.05.
UNRELATED_NMI, WEAK_NMI = 1.010, 1.020

# Of the voxels of the fixed image that have a counterpart: a slab scanned against a whole head can
# have a third; under a twentieth there is nothing to look at.
LITTLE_OVERLAP, NO_OVERLAP = 0.30, 0.05

# Liu et al., IJCV 2024: below 0.05 % the best methods, above 0.5 % folds that are seen by eye.
SOME_FOLDED_VOLUME, MUCH_FOLDED_VOLUME = 0.0005, 0.005
# Central differences see fewer folds, so a given share of them is a worse sign; SyN has none.
SOME_FOLDING, MUCH_FOLDING = 0.001, 0.01

# Standard deviation of log |J|: 0.05-0.15 for learned brain registration, 0.3-0.5 for large motion
# of the lung; at 1.2 a third of all voxels grow or shrink more than threefold.
UNEVEN_SDLOGJ, WILD_SDLOGJ = 0.6, 1.2

# Deformation beyond the affine, over the longest side of the fixed field of view. A diaphragm moves
# by a tenth of the lung; nothing in a body moves by half of what is in view.
LARGE_MOTION_SHARE, ABSURD_MOTION_SHARE = 0.25, 0.5

# Mean distance from itself, there and back. The inverse is found numerically to 0.01 voxel, so
# more than this means that there is none.
LOOSE_INVERSE_MM, NO_INVERSE_MM = 1.0, 4.0

# Dice and TRE against the start; a pair that was aligned may lose a little by interpolation.
DICE_LOSS, FEW_LABELS_MET, NO_LABELS_MET = 0.03, 0.30, 0.10
TRE_LOSS_MM, TRE_LOSS_SHARE = 1.0, 0.1

# Change of a label's volume by the warp; two people's ventricles differ by three and more.
LARGE_VOLUME_CHANGE = 4.0
# Change of all volume by the affine: a child's head has two thirds of an adult's.
LARGE_SCALE, ABSURD_SCALE = 2.0, 4.0


_LOOK = "Look at the overlay before you use it."
_HEADER = "Check orientation and spacing in the header, and that it is the right file."
ADVICE = {
    "not-finite": "Check the images for values that are not finite.",
    "less-alike": _LOOK,
    "not-more-alike": "A pair that was aligned is best kept as it was.",
    "unrelated": "Check that the right files were sent.",
    "hardly-alike": _LOOK,
    "not-compared": _LOOK,
    "correlation-fell": _LOOK,
    "little-overlap": "Check the fields of view, or send an initial transform.",
    "folds": "Use `refine none`, or a larger field of view.",
    "uneven": _LOOK,
    "far": _LOOK,
    "loose-inverse": "Do not carry points from the moving image over.",
    "mirrors": _HEADER,
    "scaled": _HEADER,
    "stretched": "Check the spacings in both headers.",
    "labels-worse": "Check that each label map belongs to its image.",
    "labels-hardly-meet": "Check that each label map belongs to its image.",
    "labels-do-not-follow": "Check that each label map belongs to its image.",
    "labels-out-of-place": "Check that the label map belongs to this image.",
    "label-volumes": "Check that each label map belongs to its image.",
    "landmarks-worse": "Check that the points are in the order and the space that was said.",
    "no-match": "Check that the right files were sent, and look at the overlay.",
    "wrong-way-round": _HEADER,
    "mirrored": "Check which side is left in both headers.",
    "out-of-view": "What is missing there is made up: use only what both images show.",
    "blank": "What is missing there is made up: use only what both images show.",
}


@dataclass(frozen=True)
class Verdict:
    """`fail`: do not use it. `warn`: look first. `pass`: nothing speaks against it.

    A reason says what was found and what to do; `codes` has the stable code of each.
    """

    status: Status
    reasons: list[str]
    codes: list[str] = field(default_factory=list)


def judge(evidence: Evidence) -> Verdict:
    """The verdict on one registration: the worst that a rule finds, reasons worst first."""
    findings = [finding for rule in _RULES for finding in rule(evidence)]
    findings.sort(key=lambda finding: finding.level != "fail")
    status: Status = findings[0].level if findings else "pass"
    reasons = [f"{found.sentence} {ADVICE[found.code]}" for found in findings]
    return Verdict(status, reasons, [found.code for found in findings])


def _not_finite(evidence: Evidence) -> Iterator[Finding]:
    for part in fields(evidence):
        value = getattr(evidence, part.name)
        if isinstance(value, float) and not math.isfinite(value):
            yield Finding(
                "fail",
                "not-finite",
                f"{part.name} could not be computed; the result is not usable.",
            )


def _share(value: float) -> str:
    return f"{100 * value:.3g} %"


def _above(
    value: float | None, bounds: tuple[float, float], code: str, sentence: str
) -> Iterator[Finding]:
    """Warn above the first bound, fail above the second."""
    if value is not None and value > bounds[0]:
        yield Finding("fail" if value > bounds[1] else "warn", code, sentence)


def _similarity(evidence: Evidence) -> Iterator[Finding]:
    """Better than before, by measures that hold across modalities; and like anything at all."""
    gains = [
        _gain(evidence.lncc_before, evidence.lncc_after, 0.0),
        _gain(evidence.nmi_before, evidence.nmi_after, 1.0),
    ]
    known = [gain for gain in gains if gain is not None]
    if not known:
        yield from _similarity_by_ncc(evidence)
        return
    if all(gain < -SIMILARITY_LOSS_SHARE for gain in known):
        yield Finding(
            "fail", "less-alike", "The images are less alike after registration than before it."
        )
    elif all(gain < 0 for gain in known):
        yield Finding("warn", "not-more-alike", "Registration did not make the images more alike.")
    yield from _likeness(evidence.lncc_after, evidence.nmi_after)


def _gain(before: float | None, after: float | None, floor: float) -> float | None:
    """The change of a similarity above its floor, as a share of what it was."""
    if before is None or after is None:
        return None
    return (after - before) / max(before - floor, 1e-6)


def _likeness(lncc: float | None, nmi: float | None) -> Iterator[Finding]:
    """Both have to be low: each alone is fooled, LNCC by smoothness and NMI by small overlap."""
    low = [(lncc, UNRELATED_LNCC, WEAK_LNCC), (nmi, UNRELATED_NMI, WEAK_NMI)]
    known = [(value, fail, warn) for value, fail, warn in low if value is not None]
    if not known:
        return
    if all(value < fail for value, fail, _ in known):
        sentence = "After registration the images are no more alike than unrelated ones."
        yield Finding("fail", "unrelated", sentence)
    elif all(value < warn for value, _, warn in known):
        yield Finding("warn", "hardly-alike", "After registration the images are hardly alike.")


def _similarity_by_ncc(evidence: Evidence) -> Iterator[Finding]:
    before, after = evidence.ncc_before, evidence.ncc_after
    if before is None or after is None:
        sentence = "The images could not be compared, so success was not checked."
        yield Finding("warn", "not-compared", sentence)
    elif abs(after) < abs(before) * (1 - SIMILARITY_LOSS_SHARE):
        sentence = f"The correlation went from {before:.2f} to {after:.2f}."
        yield Finding("warn", "correlation-fell", sentence)


def _overlap(evidence: Evidence) -> Iterator[Finding]:
    share = evidence.overlap_fraction
    if share is not None and share < LITTLE_OVERLAP:
        level: Level = "fail" if share < NO_OVERLAP else "warn"
        sentence = f"Only {_share(share)} of the fixed image has a counterpart in the moving one."
        yield Finding(level, "little-overlap", sentence)


def _folding(evidence: Evidence) -> Iterator[Finding]:
    volume, count = evidence.non_diffeomorphic_volume, evidence.folding_fraction
    bounds = (SOME_FOLDED_VOLUME, MUCH_FOLDED_VOLUME)
    yield from _above(
        volume, bounds, "folds", f"The field folds {_share(volume or 0)} of the volume."
    )
    bounds = (SOME_FOLDING, MUCH_FOLDING)
    yield from _above(
        count, bounds, "folds", f"The field folds at {_share(count or 0)} of the voxels."
    )


def _motion(evidence: Evidence) -> Iterator[Finding]:
    spread = evidence.sdlogj
    yield from _above(
        spread,
        (UNEVEN_SDLOGJ, WILD_SDLOGJ),
        "uneven",
        f"Neighbouring places shrink and grow very unequally (SDlogJ {spread or 0:.2f}).",
    )
    if evidence.max_deformation_mm is not None and evidence.field_of_view_mm:
        share = evidence.max_deformation_mm / evidence.field_of_view_mm
        yield from _above(
            share,
            (LARGE_MOTION_SHARE, ABSURD_MOTION_SHARE),
            "far",
            f"Tissue is moved by up to {evidence.max_deformation_mm:.0f} mm, "
            f"{_share(share)} of the field of view.",
        )


def _inverse(evidence: Evidence) -> Iterator[Finding]:
    apart = evidence.inverse_consistency_mm
    sentence = f"Points sent there and back miss themselves by {apart or 0:.1f} mm on average."
    yield from _above(apart, (LOOSE_INVERSE_MM, NO_INVERSE_MM), "loose-inverse", sentence)


def _scale(evidence: Evidence) -> Iterator[Finding]:
    change = evidence.affine_volume_change
    if change is None or not math.isfinite(change):
        return
    if change <= 0:
        yield Finding("fail", "mirrors", "The affine mirrors the image: left became right.")
        return
    sentence = f"The affine changes volumes by a factor of {change:.2g}."
    yield from _above(max(change, 1 / change), (LARGE_SCALE, ABSURD_SCALE), "scaled", sentence)


def _labels(evidence: Evidence) -> Iterator[Finding]:
    before, after = evidence.mean_dice_before, evidence.mean_dice_after
    if before is not None and after is not None and after < before - DICE_LOSS:
        sentence = f"Labels overlap less than before: Dice {before:.2f}, now {after:.2f}."
        yield Finding("fail", "labels-worse", sentence)
    elif after is not None and after < FEW_LABELS_MET:
        level: Level = "fail" if after < NO_LABELS_MET else "warn"
        yield Finding(level, "labels-hardly-meet", f"Labels hardly meet: mean Dice {after:.2f}.")
    changes = evidence.label_volume_change or {}
    odd = [n for n, x in changes.items() if not 1 / LARGE_VOLUME_CHANGE <= x <= LARGE_VOLUME_CHANGE]
    if odd:
        sentence = f"The volume of {len(odd)} of {len(changes)} labels changed over fourfold."
        yield Finding("warn", "label-volumes", sentence)


def _landmarks(evidence: Evidence) -> Iterator[Finding]:
    before, after = evidence.tre_mm_before, evidence.tre_mm_after
    if before is None or after is None:
        return
    if after > before + max(TRE_LOSS_MM, TRE_LOSS_SHARE * before):
        sentence = f"Landmarks are further apart than before: {before:.1f}, now {after:.1f} mm."
        yield Finding("fail", "landmarks-worse", sentence)


_RULES: tuple[Callable[[Evidence], Iterator[Finding]], ...] = (
    _not_finite,
    _similarity,
    _overlap,
    _folding,
    _motion,
    _inverse,
    _scale,
    _labels,
    _landmarks,
    *SUSPICIONS,
)
