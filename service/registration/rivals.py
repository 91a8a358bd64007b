"""Would the pair fit as well the wrong way round? What a match by chance looks like.

The affine that was found is held against every other way to lay the moving image's axes: 23 turns
by right angles and 24 mirrored ones. The best few of each are improved as the affine was, in both
ways of the search where contrasts differ. Images that belong together fit far better as they were
found than turned; where they do not, they have nothing to do with each other. Where a turned or a
mirrored one fits better, a header says something else than its voxels. All on coarse copies and
before any deformation, which can make anything fit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

from service.registration.fields import Affine
from service.registration.initialise import contrasts_differ, likeness, nudged
from service.registration.metrics import ncc
from service.registration.resample import resample
from service.registration.scouted import Scouted

LEVEL = 1  # of the images as the search sees them: about 56 voxels along the longest side
IMPROVED = 2  # of the turns, and of the mirrored ones
RIGID_STEPS = 6
AFFINE_STEPS = (4, 4)  # on the coarse level and on LEVEL, where fits are told
# Of a second way between contrasts, first rigid: coarse copies mislead an affine, see `initialise`.
LONGER_STEPS = (0, 6)


@dataclass(frozen=True)
class Fits:
    """Mean local correlation under an affine, 0 to 1, as found, turned and mirrored at best.

    The plain correlations tell left from right better where both images are of one contrast.
    """

    affine_fit: float
    turned_fit: float
    mirrored_fit: float
    affine_ncc: float
    mirrored_ncc: float


def fits(fixed: Scouted, moving: Scouted, affine: Affine) -> Fits | None:
    """How well the pair fits as found and the wrong way round; None of slices and flat images.

    Args:
        fixed: Of a coarse copy.
        moving: Likewise.
        affine: What was found, fixed to moving.
    """
    if min(*fixed.grid.shape, *moving.grid.shape) == 1:
        return None
    if not (fixed.has_contrast and moving.has_contrast):
        return None
    differ = contrasts_differ(fixed, moving, affine)
    found, found_fit = _improved(fixed, moving, affine, differ)
    _, turned_fit = _best(fixed, moving, _laid(fixed, moving, affine, TURNS), differ)
    across = moving.mirrored()
    ways = _laid(fixed, across, affine, (np.eye(3), *TURNS))
    mirrored, mirrored_fit = _best(fixed, across, ways, differ)
    return Fits(
        affine_fit=found_fit,
        turned_fit=turned_fit,
        mirrored_fit=mirrored_fit,
        affine_ncc=_correlation(fixed, moving, found),
        mirrored_ncc=_correlation(fixed, across, mirrored),
    )


def _right_angles() -> tuple[np.ndarray, ...]:
    """The 23 turns that lay the axes on each other otherwise."""
    found = []
    for order, signs in product(permutations(range(3)), product((1.0, -1.0), repeat=3)):
        turn = np.zeros((3, 3))
        turn[range(3), order] = signs
        if np.linalg.det(turn) > 0 and not np.allclose(turn, np.eye(3)):
            found.append(turn)
    return tuple(found)


TURNS = _right_angles()


def _laid(
    fixed: Scouted, moving: Scouted, affine: Affine, turns: Sequence[np.ndarray]
) -> list[Affine]:
    """The affine after each turn, centres of mass upon each other."""
    here, there = fixed.centre_of_mass_mm, moving.centre_of_mass_mm
    candidates = []
    for turn in turns:
        matrix = np.eye(4)
        matrix[:3, :3] = affine.matrix[:3, :3] @ turn
        matrix[:3, 3] = there - matrix[:3, :3] @ here
        candidates.append(Affine(matrix))
    return candidates


def _best(
    fixed: Scouted, moving: Scouted, starts: list[Affine], differ: bool
) -> tuple[Affine, float]:
    """The best of them, the likeliest improved, and how well it fits."""
    scores = likeness(fixed, moving, 0, starts)
    likely = [starts[n] for n in np.argsort(-scores, kind="stable")[:IMPROVED]]
    closer = [nudged(fixed, moving, start, "rigid", (RIGID_STEPS,)) for start in likely]
    best, _ = max(closer, key=lambda one: one[1])
    return _improved(fixed, moving, best, differ)


def _improved(fixed: Scouted, moving: Scouted, start: Affine, differ: bool) -> tuple[Affine, float]:
    """The start improved, and how well it fits; where contrasts differ, the better of both ways."""
    ends = [nudged(fixed, moving, start, "affine", AFFINE_STEPS)]
    if differ:
        closer, _ = nudged(fixed, moving, start, "rigid", LONGER_STEPS)
        ends.append(nudged(fixed, moving, closer, "affine", LONGER_STEPS))
    return max(ends, key=lambda end: end[1])


def _correlation(fixed: Scouted, moving: Scouted, affine: Affine) -> float:
    here, there = fixed.levels[LEVEL], moving.levels[LEVEL]
    return ncc(here, resample(there, here.grid, affine=affine, fill=float(there.data.min())))
