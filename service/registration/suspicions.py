"""Rules about what was sent: the wrong image, header or labels, told from the affine alone."""

import math
from collections.abc import Callable, Iterator

from service.registration.evidence import Evidence, Finding, Level

# Fit of the best wrong way round over the fit as found. Of pairs that belong together 0.65 at most
# (two brains), of noise, other anatomy and turned headers 0.7 and more.
TURNED_TOO_WELL, TURNED_BETTER, TURNED_MUCH_BETTER = 0.68, 1.05, 1.3
# Local correlation by the affine: 0.16 and more where a pair belongs together, also between
# contrasts; noise, in which nothing is smooth, has less than 0.06, smooth noise up to 0.18. Above
# that the shape of the field of view may fit any way, as an echo's cone does.
SURE_FIT, WEAK_FIT, NO_FIT = 0.17, 0.07, 0.02
# A little more is not sure either where a turn fits this nearly as well.
HALF_SURE_FIT, TURNED_AS_WELL = 0.25, 0.82
# Nor is much more where one fits all but as well; of pairs that belong together .87 at most.
NEARLY_SURE_FIT, TURNED_ALL_BUT_AS_WELL = 0.4, 0.92

# How much better the mirrored image fits, as a sum of logarithms: of a symmetric template as well
# either way (0.0004 apart), of two people's brains 0.002 and more worse, 0.005 and more if flipped.
MIRRORED_BETTER = 0.002
# Between contrasts only local correlation can be asked.
MIRRORED_BETTER_OTHER_CONTRAST = 0.03
SAME_CONTRAST = 0.9  # of plain correlation

# Along one direction: adults differ by a tenth, a child's head from theirs by a seventh.
LEAST_SCALE, MOST_SCALE = 0.75, 1.3

# Of the places where the fixed image shows something.
MUCH_OUT_OF_VIEW, MOST_OUT_OF_VIEW = 0.62, 0.30
# And of those in view; good pairs have 0.01 at most.
MUCH_BLANK = 0.10

# Labels that account for this share of the image's variance can be told to lie elsewhere.
TELLING_LABELS, LABELS_IN_PLACE = 0.5, 1.25
# Labels that follow the images overlap more when these become this many times as alike.
MORE_ALIKE, DICE_GAIN, HIGH_DICE = 1.5, 0.10, 0.65


def _match(evidence: Evidence) -> Iterator[Finding]:
    """It fits far better as it was found than turned by right angles, or labels show it."""
    found, turned, mirrored = evidence.affine_fit, evidence.turned_fit, evidence.mirrored_fit
    if found is None or turned is None or mirrored is None or _labels_agree(evidence):
        return
    if max(turned, mirrored) > TURNED_BETTER * found and max(turned, mirrored) > WEAK_FIT:
        how = "turned" if turned > mirrored else "mirrored"
        sentence = f"The images fit better when the moving one is {how}."
        much = max(turned, mirrored) > TURNED_MUCH_BETTER * found
        yield Finding("fail" if much else "warn", "wrong-way-round", sentence)
    elif found < WEAK_FIT:
        level: Level = "fail" if found < NO_FIT else "warn"
        yield Finding(level, "no-match", "Without deforming it, the moving image fits nowhere.")
    elif _fits_any_way(found, turned):
        sentence = (
            "Turned the wrong way round the images fit nearly as well "
            f"({turned:.2f} to {found:.2f}): nothing shows that they belong together."
        )
        yield Finding("warn", "no-match", sentence)


def _fits_any_way(found: float, turned: float) -> bool:
    if found < SURE_FIT:
        return turned > TURNED_TOO_WELL * found
    if found < HALF_SURE_FIT:
        return turned > TURNED_AS_WELL * found
    return found < NEARLY_SURE_FIT and turned > TURNED_ALL_BUT_AS_WELL * found


def _labels_agree(evidence: Evidence) -> bool:
    return evidence.mean_dice_after is not None and evidence.mean_dice_after >= HIGH_DICE


def _side(evidence: Evidence) -> Iterator[Finding]:
    """Left is left."""
    found, mirrored = evidence.affine_fit, evidence.mirrored_fit
    if found is None or mirrored is None or min(found, mirrored) < WEAK_FIT:
        return
    if _labels_agree(evidence):
        return
    better, bound = math.log(mirrored / found), MIRRORED_BETTER_OTHER_CONTRAST
    plain, across = evidence.affine_ncc, evidence.mirrored_ncc
    if plain is not None and across is not None and SAME_CONTRAST < min(plain, across) < 1:
        better += math.log((1 - plain) / (1 - across))
        bound = MIRRORED_BETTER
    if bound < better and mirrored <= TURNED_BETTER * found:
        yield Finding("warn", "mirrored", "The images fit a little better mirrored.")


def _stretch(evidence: Evidence) -> Iterator[Finding]:
    if evidence.affine_scales is None:
        return
    least, most = evidence.affine_scales
    if least < LEAST_SCALE or most > MOST_SCALE:
        sentence = f"The affine scales by {least:.2f} to {most:.2f}, depending on the direction."
        yield Finding("warn", "stretched", sentence)


def _all_there(evidence: Evidence) -> Iterator[Finding]:
    """Most of what the fixed image shows is in the moving image's view, and shown there."""
    seen, met = evidence.structure_in_view, evidence.structure_met
    if seen is not None and seen < MUCH_OUT_OF_VIEW:
        level: Level = "fail" if seen < MOST_OUT_OF_VIEW else "warn"
        sentence = (
            f"Only {100 * seen:.0f} % of what the fixed image shows lies in the moving one's view."
        )
        yield Finding(level, "out-of-view", sentence)
    elif seen and met is not None and met < (1 - MUCH_BLANK) * seen:
        share = 100 - 100 * met / seen
        sentence = (
            f"Where the fixed image shows something, {share:.0f} % of the moving one is blank."
        )
        yield Finding("warn", "blank", sentence)


def _labels_in_place(evidence: Evidence) -> Iterator[Finding]:
    """Labels that divide their image as its intensities do would fit it less elsewhere."""
    for role, here, moved in (
        ("fixed", evidence.fixed_labels_fit, evidence.fixed_labels_fit_moved),
        ("moving", evidence.moving_labels_fit, evidence.moving_labels_fit_moved),
    ):
        if here is None or moved is None or max(here, moved) < TELLING_LABELS:
            continue
        if here < LABELS_IN_PLACE * moved:
            sentence = f"The {role} labels do not lie where the {role} image has its parts."
            yield Finding("warn", "labels-out-of-place", sentence)


def _labels_follow(evidence: Evidence) -> Iterator[Finding]:
    """What makes the images more alike makes their labels overlap more."""
    images = evidence.lncc_before, evidence.lncc_after
    labels = evidence.mean_dice_before, evidence.mean_dice_after
    if None in images or None in labels:
        return
    before, after = (value or 0.0 for value in images)
    was, now = (value or 0.0 for value in labels)
    if after > MORE_ALIKE * before and now < min(HIGH_DICE, was + DICE_GAIN):
        sentence = f"The images became more alike, their labels hardly: {was:.2f}, now {now:.2f}."
        yield Finding("warn", "labels-do-not-follow", sentence)


SUSPICIONS: tuple[Callable[[Evidence], Iterator[Finding]], ...] = (
    _match,
    _side,
    _stretch,
    _all_there,
    _labels_in_place,
    _labels_follow,
)
