"""Start where the frame before ended, if that is a good start.

Motion between two frames is small beside what lies between reference and frame: where the last
transform still makes the pair nearly as alike as it made the last one, a few steps of refinement
follow the rest, and neither search nor network is needed.
"""

from dataclasses import dataclass, replace

from service.registration.alignment import Alignment
from service.registration.fields import Affine
from service.registration.initialise import nudge
from service.registration.options import Initialise, Refine
from service.registration.prepared import PreparedPair
from service.registration.refine import Plan, plan_for

# Of the similarity that answers had so far: a start below the first share is a jump; between the
# two, steps on a coarser level come first; an answer below the third is searched for anew.
JUMP, NEAR, LOST = 0.6, 0.8, 0.8
# Gauss-Newton steps of the affine on the search's levels, coarse first: from the last frame's, and
# from where headers put a pair that is not searched.
NUDGE_STEPS, SETTLING_STEPS = (3, 2), (12, 6)
# Steps of refinement on the finest levels, coarse first: of a near start and of a farther one.
NEAR_STEPS, FAR_STEPS = (10,), (24, 12)


@dataclass(frozen=True, eq=False)
class Followed:
    """The answer to the frame before, and how alike it made that pair."""

    alignment: Alignment
    similarity: float


@dataclass(frozen=True, eq=False)
class WarmStart:
    """Where to start, and how alike the pair is there."""

    alignment: Alignment
    similarity: float


def warm_start(pair: PreparedPair, last: Followed, how: Initialise) -> WarmStart:
    """The last answer as it is, or with its affine moved a little, whichever is more alike."""
    kept = WarmStart(last.alignment, _similarity(pair, last.alignment))
    moved = replace(last.alignment, affine=nudged(pair, last.alignment.affine, how))
    if (similarity := _similarity(pair, moved)) > kept.similarity:
        return WarmStart(moved, similarity)
    return kept


def nudged(
    pair: PreparedPair, affine: Affine, how: Initialise, steps: tuple[int, ...] = NUDGE_STEPS
) -> Affine:
    """A few Gauss-Newton steps from an affine, without the field; see `initialise.nudge`."""
    start = pair.initial.inverse() @ affine
    return pair.initial @ nudge(pair.fixed.scouted, pair.moving.scouted, start, how, steps)


def is_jump(start: WarmStart, last: Followed, unmoved: float) -> bool:
    """Whether the last answer is of no use: far less alike than it was, or less than nothing is."""
    return not start.similarity >= max(JUMP * last.similarity, unmoved)


def is_lost(similarity: float, last: Followed) -> bool:
    """Whether an answer is much worse than answers were."""
    return not similarity >= LOST * last.similarity


def warm_plan(refine: Refine, start: WarmStart, last: Followed) -> Plan:
    """Few steps on the finest levels of what `refine` would do from nothing."""
    near = start.similarity >= NEAR * last.similarity
    return replace(plan_for(refine), steps=NEAR_STEPS if near else FAR_STEPS)


def _similarity(pair: PreparedPair, alignment: Alignment) -> float:
    return pair.similarity(alignment.affine, alignment.field)
