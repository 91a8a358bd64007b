"""Improve a displacement field for the pair at hand: climb local correlation, coarse to fine."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from service.registration.descent import EVENING, LatticeField, Level, LevelPair, MakeLevel
from service.registration.fields import Affine, DisplacementField
from service.registration.grid import Grid
from service.registration.levels import Levels, fixed_levels, moving_levels
from service.registration.options import Refine
from service.registration.progress import Watch, unwatched
from service.registration.pyramid import even_spacings
from service.registration.sight import Sight
from service.registration.volume import Volume

Clock = Callable[[], float]

STEP_VOXELS = 0.6  # largest displacement of a step, where a plan says no other
STALL = 5e-4  # relative gain over STALL_STEPS below which a level has converged
STALL_STEPS = 5
WATCH_EVERY = 5
# Of a budget: what bringing a pair onto a level and comparing at the end cost, in steps; and how
# many steps make a level worth it. A level of more voxels is a little slower for each.
PREPARATION_STEPS = 8
FEWEST_STEPS = 4
# Between contrasts a climb must explain so much of what was left unexplained where it began. Those
# that bring a pair nearer explain .28 and more of it (brains, livers, a lung, hippocampi with other
# values, but for one), those that lead away .24 at most (FLAIR, T1: .13; CT from MR: .16;
# ultrasound from MR, were it refined), but for MR from CT (.41).
MORE_EXPLAINED = 0.25
SMALLEST_AXIS = 12  # voxels; a coarser level would hold little more than one window


@dataclass(frozen=True)
class Plan:
    """What an effort is worth: the finest level's size, the most steps a level, coarse first.

    A level of many voxels gets no more than `voxel_steps` of them times steps, but ENOUGH_STEPS.
    `step_voxels` is the largest displacement of a step, `evening` a share like `descent.EVENING`.
    How rough a field becomes is a balance of the two: short steps and much evening make it even.
    """

    finest_voxels: int
    steps: tuple[int, ...]
    voxel_steps: float = float("inf")
    budget_s: float = float("inf")
    step_voxels: float = STEP_VOXELS
    evening: float = EVENING

    def from_further(self, alike: float = 0.0) -> "Plan":
        """With a coarser level first, for a start that no network has made.

        The more alike the pair is there (local correlation, 0 to 1), the less there is to gain, and
        a step scaled to its strongest force follows noise: steps are shorter.
        """
        share = float(np.interp(alike, SHORTER_FROM_TO, (1.0, SHORTEST)))
        steps = (FURTHER_STEPS, *self.steps)
        return replace(self, steps=steps, step_voxels=share * self.step_voxels)

    def steps_on(self, level: int, voxels: int) -> int:
        """The most steps on a level of so many voxels."""
        return int(min(self.steps[level], max(ENOUGH_STEPS, self.voxel_steps / voxels)))


FURTHER_STEPS = 30
# Between these local correlations steps fall to a quarter: two people's brains have .52 to .60
# after the affine, one liver's frames .62 and .65, two visits of one head .85 and .88.
SHORTER_FROM_TO, SHORTEST = (0.6, 0.85), 0.25
ENOUGH_STEPS = 6
FAST = Plan(1_000_000, (24, 24), voxel_steps=4.5e6, step_voxels=0.8, evening=0.9)
BEST = Plan(12_000_000, (40, 24, 20), voxel_steps=4.8e7, step_voxels=0.6, evening=0.95)


def plan_for(effort: Refine) -> Plan:
    """The plan of a named effort; a number is a budget in seconds for the steps of `best`."""
    if effort == "fast":
        return FAST
    if effort == "best":
        return BEST
    return replace(BEST, voxel_steps=float("inf"), budget_s=float(effort))


def level_spacings(fixed: Grid, plan: Plan) -> list[float]:
    """Spacings in mm from coarse to fine, each half the one before; at most as many as planned.

    The finest is that of the finest axis, if the plan has the voxels for it along all axes.
    """
    finest = float(fixed.spacing_mm.min())
    while _voxels(fixed, finest) > plan.finest_voxels:
        finest *= 2.0
    spacings = [finest]
    while len(spacings) < len(plan.steps):
        spacing = 2 * spacings[-1]
        if (fixed.extent_mm / even_spacings(fixed, spacing)).min() < SMALLEST_AXIS:
            break
        spacings.append(spacing)
    return spacings[::-1]


def _voxels(grid: Grid, spacing_mm: float) -> float:
    return float(np.prod(grid.extent_mm / even_spacings(grid, spacing_mm)))


def refine(
    fixed: Volume,
    moving: Volume,
    affine: Affine,
    field: DisplacementField,
    *,
    effort: Refine,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    watch: Watch = unwatched,
    clock: Clock = time.perf_counter,
    make_level: MakeLevel = Level,
) -> DisplacementField:
    """Improve u so that moving(A(x + u(x))) matches fixed(x).

    Each level climbs the mean squared local correlation of windows of five voxels; the force is
    smoothed, compressed (its lengths to the power 3/4), scaled to the largest displacement of the
    plan, composed with the field, and the field smoothed and the growth of volumes evened out.
    Correlation squared is blind to contrast inversion; where contrasts differ in another way, one
    image is seen in the other's contrast, which is learned again as the climb goes on (`sight`,
    `contrast`).

    Args:
        fixed: Where the field lives.
        moving: What is pulled onto it.
        affine: Fixed world to moving world; stays as it is.
        field: Where to start; its own grid may be any.
        effort: How much to spend: a name, or seconds.
        fixed_mask: Where the similarity counts, on any grid; 1 inside.
        moving_mask: The same for the moving volume, as `field` carries it over.
        watch: Told the stage and the fraction; may raise.
        clock: Seconds, for a budget.
        make_level: What makes a level's steps, and where; see `device_level`.

    Returns:
        The better field on the finest level's grid, or `field` itself when nothing beat it there.
    """
    if effort == "none":
        return field
    begun, plan = clock(), plan_for(effort)
    spacings = level_spacings(fixed.grid, plan)
    levels = zip(fixed_levels(fixed, spacings), moving_levels(moving, spacings), strict=True)
    pairs = [LevelPair(f, m, affine, fixed_mask, moving_mask) for f, m in levels]
    plan = replace(plan, budget_s=plan.budget_s - (clock() - begun))
    whole = LevelPair(fixed, moving, affine, fixed_mask, moving_mask)
    climbed = climb(
        Levels(pairs, spacings, whole),
        field,
        plan=plan,
        watch=watch,
        clock=clock,
        make_level=make_level,
    )
    return climbed.field


@dataclass(frozen=True, eq=False)
class Climbed:
    """What a climb reached. Similarities are of the finest level that it came to, 0 to 1.

    `field` is the start itself where nothing beat it; `is_cut_short` where the time ran out;
    `stepping_s` is what the steps took, without getting levels ready and comparing. `explained`
    where the contrasts differ in more than sign as the pair lay where the finest level began: of
    the variance that one image in the other's contrast left unexplained, the share that it explains
    afterwards.
    """

    field: DisplacementField
    before: float
    after: float
    steps: int
    stepping_s: float
    is_cut_short: bool
    explained: float | None = None

    @property
    def explains_more(self) -> bool:
        """Whether contrasts are alike, or one image tells clearly more of the other than before."""
        return self.explained is None or self.explained >= MORE_EXPLAINED


def climb(
    levels: Levels,
    field: DisplacementField,
    *,
    plan: Plan,
    watch: Watch = unwatched,
    clock: Clock = time.perf_counter,
    make_level: MakeLevel = Level,
) -> Climbed:
    """Improve a field on levels that are made already, coarse to fine; see `refine`."""
    return _Climb(plan, watch, clock, make_level).run(levels, field)


class _Climb:
    """One refinement: its plan, its clock, who is told, and where its levels are."""

    def __init__(self, plan: Plan, watch: Watch, clock: Clock, make_level: MakeLevel) -> None:
        self._plan = plan
        self._make_level = make_level
        self._watch = watch
        self._clock = clock
        self._ends = clock() + plan.budget_s
        self._done = 0.0
        self._seconds_per_voxel = 0.0
        self._steps = 0
        self._stepping_s = 0.0
        self._is_cut_short = False

    def run(self, levels: Levels, field: DisplacementField) -> Climbed:
        """Every level that the plan and the time allow, from coarse to fine."""
        pairs = levels.pairs
        start = LatticeField.of(field, pairs[-1].fixed.grid)
        sight = Sight(levels, self._plan.evening, self._make_level)
        reached = before = start
        for number, (level_pair, spacing) in enumerate(zip(pairs, levels.spacings, strict=True)):
            if number > 0 and not self._has_time_for(level_pair.fixed.grid.voxel_count):
                self._is_cut_short = True
                break
            sight.turn_to(number, reached)
            if number == 0:
                level = sight.level(reached)
            else:
                level, before = _entered(sight, reached, before)
            steps, step_voxels = self._plan.steps[number], self._plan.step_voxels
            if sight.contrasts_differ:  # each look at the contrast needs its steps, short ones
                step_voxels = min(step_voxels, STEP_VOXELS)
            else:
                steps = self._plan.steps_on(number, level_pair.fixed.grid.voxel_count)
            parts = sight.parts(steps)
            for part in range(parts):
                if part > 0 and not self._is_cut_short:
                    del level  # its buffers make room for the next one's
                    level = sight.level(reached)
                self._climb(level, steps // parts, step_voxels * spacing)
                reached = level.field
            self._done = (number + 1) / len(pairs)
            self._watch("refine", self._done)
        if sight.contrasts_differ:
            del level
            (after, now), (of_start, then) = (sight.alike(at, reached) for at in (reached, start))
            explained = (now - then) / (1 - then) if then < 1 else 0.0
        else:
            after, of_start, explained = level.similarity(), level.similarity_of(start), None
        better = reached.in_world() if after > of_start else field
        return Climbed(
            better,
            of_start,
            max(after, of_start),
            self._steps,
            self._stepping_s,
            self._is_cut_short,
            explained,
        )

    def _has_time_for(self, voxels: int) -> bool:
        """Whether a level's preparation and a few steps fit in what is left, by the pace so far."""
        left_s = self._ends - self._clock()
        return left_s > self._seconds_per_voxel * voxels * (PREPARATION_STEPS + FEWEST_STEPS)

    def _climb(self, level: Level, steps: int, step_mm: float) -> None:
        """Step on one level until the steps, the time, or the gain run out."""
        history: list[float] = []
        begun = self._clock()
        for step in range(steps):
            if _has_stalled(history):
                break
            if self._clock() > self._ends:
                self._is_cut_short = True
                break
            history.append(level.step(step_mm))
            if step % WATCH_EVERY == 0:
                self._watch("refine", self._done)
        spent_s = self._clock() - begun
        self._steps += len(history)
        self._stepping_s += spent_s
        self._seconds_per_voxel = spent_s / max(1, len(history)) / level.grid.voxel_count


def _entered(
    sight: Sight, climbed: LatticeField, before: LatticeField
) -> tuple[Level, LatticeField]:
    """The next finer level, begun with what the coarser one made, if that is better there.

    Where the contrasts differ in more than sign, large windows correlate best at a wrong place;
    small ones show it.
    """
    if sight.contrasts_differ:
        is_worse = sight.alike(before, climbed)[0] > sight.alike(climbed, climbed)[0]
        begun = before if is_worse else climbed
        return sight.level(begun), begun
    level = sight.level(climbed)
    if level.similarity_of(before) > level.similarity():
        return sight.level(before), before
    return level, climbed


def _has_stalled(history: list[float]) -> bool:
    """Whether the last STALL_STEPS steps brought next to nothing."""
    if len(history) <= STALL_STEPS:
        return False
    before = max(history[:-STALL_STEPS])
    return max(history[-STALL_STEPS:]) - before < STALL * before
