"""One frame's way to its transform: from nothing or from the frame before, in the time it has."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from service.registration.alignment import (
    SEARCHED,
    Alignment,
    Remaining,
    begun,
    chosen,
    is_refinable,
    predicted_if_needed,
    refined,
)
from service.registration.device_level import level_for
from service.registration.engine import Engine
from service.registration.fields import DisplacementField
from service.registration.following import (
    SETTLING_STEPS,
    Followed,
    is_jump,
    is_lost,
    nudged,
    warm_plan,
    warm_start,
)
from service.registration.options import Initialise, RegisterOptions
from service.registration.prepared import PreparedPair
from service.registration.progress import RunningStage, StageClock, Watch
from service.registration.refine import Plan, plan_for
from service.registration.schedule import Costs, Schedule

# What always follows, and has to fit in the budget too.
AFTERWARDS = ("compare", "warp", "measure")
# Of what refinement takes besides its steps: comparing at the end.
ENDING_SHARE = 0.35
# How fast what is expected goes down: a slow decay over some fifty frames is noticed.
FADING = 0.02


@dataclass(frozen=True, eq=False)
class Answer:
    """A transform, and how alike the pair is where it was placed and where it is now.

    `is_best` where nothing better was found from nothing either.
    """

    alignment: Alignment
    before: float
    after: float
    is_warm: bool = False
    is_best: bool = True


class Answering:
    """The stages of one frame. What they took goes into the costs."""

    def __init__(
        self,
        pair: PreparedPair,
        options: RegisterOptions,
        engine: Engine,
        *,
        rigid_only: bool,
        costs: Costs,
        budget_s: float | None,
        watch: Watch,
    ) -> None:
        """The time begins to run."""
        self.warnings: list[str] = []
        self.steps = 0
        self.schedule = Schedule(costs, budget_s)
        self.clock = StageClock(watch)
        self._pair, self._options, self._engine = pair, options, engine
        self._rigid_only = rigid_only
        self._costs = costs
        how = chosen(options, engine)
        self._how: Initialise = "rigid" if rigid_only and how in SEARCHED else how
        self._refine = "none" if rigid_only or self._segments else options.refine

    @property
    def _segments(self) -> bool:
        return self._engine.card.output.kind == "warped_label"

    @contextmanager
    def stage(self, name: str, cost: str | None = None) -> Iterator[RunningStage]:
        """A stage of this name, which counts as this cost."""
        with self.clock.stage(name) as stage:
            yield stage
        self._costs.learn({cost or name: self.clock.stages[-1].seconds})

    def answer(self, last: Followed | None) -> Answer:
        """From where the last frame ended, if there is one and it helps, else from nothing."""
        if last is None or self._segments:
            return self._from_nothing()
        followed = self._follow(last)
        if followed is None:
            self._warn("lies far from the one before, and was registered from nothing.")
            return self._from_nothing()
        if is_lost(followed.after, last) and self._has_time_from_nothing():
            self._warn("became much less alike than those before, and was registered from nothing.")
            anew = self._from_nothing()
            return anew if anew.after > followed.after else replace(followed, is_best=True)
        return followed

    def _warn(self, what: str) -> None:
        self.warnings.append(f"The frame {what}")

    def _has_time_from_nothing(self) -> bool:
        return self.schedule.allows("search", "predict", "refine", afterwards=AFTERWARDS)

    def _from_nothing(self) -> Answer:
        """Search, network, refinement: as `align` where there is time for all of it."""
        pair, schedule = self._pair, self.schedule
        searches = schedule.allows("search", afterwards=AFTERWARDS)
        with self.stage("initialise", "search" if searches else "placed") as stage:
            found = begun(pair, self._how if searches else self._unsearched(), stage)
            if not searches:
                found = replace(found, affine=nudged(pair, found.affine, self._steps_of()))
            elif self._rigid_only and self._how not in SEARCHED:
                affine = nudged(pair, found.affine, "rigid", SETTLING_STEPS)
                found = replace(found, affine=affine)
        plan = None if self._refine == "none" else plan_for(self._refine)
        if not self._rigid_only and schedule.allows("predict", afterwards=("refine", *AFTERWARDS)):
            with self.stage("predict") as stage:
                remaining = Remaining(self._engine, plan)
                found, plan = predicted_if_needed(pair, found, remaining, stage, self.warnings)
        if plan is not None:
            found = self._refined(found, plan)
        return self._compared(found)

    def _unsearched(self) -> Initialise:
        """Where headers put the pair; centred, if it does not meet there and would be searched."""
        meets = self._pair.fixed.grid.overlaps(self._pair.moving.scouted.grid)
        return "none" if meets or self._how == "none" else "centre"

    def _steps_of(self) -> Initialise:
        """What Gauss-Newton steps look for where nothing is searched."""
        return "rigid" if self._rigid_only else self._how

    def _follow(self, last: Followed) -> Answer | None:
        """A few steps from where the last frame ended; None where that is no start."""
        # The field's steps are worth more than the affine's, which are left out first.
        first = () if self._refine == "none" else ("refine",)
        in_time = self.schedule.allows("follow", afterwards=(*first, *AFTERWARDS))
        with self.stage("initialise", "follow" if in_time else "kept") as stage:
            start = warm_start(self._pair, last, self._steps_of() if in_time else "none")
            before = self._pair.similarity(self._pair.initial)
            stage.detail = f"from the frame before, local correlation {start.similarity:.3f}"
        if is_jump(start, last, before):
            if self._has_time_from_nothing():
                return None
            self._warn("lies far from the one before, and there was no time to begin from nothing.")
        found = start.alignment
        if self._refine != "none":
            found = self._refined(found, warm_plan(self._refine, start, last))
        after = start.similarity
        if found is not start.alignment:
            with self.stage("measure", "compare"):
                after = self._pair.similarity(found.affine, found.field)
        if after < start.similarity:
            found, after = start.alignment, start.similarity
        return Answer(found, before, after, is_warm=True, is_best=False)

    def _refined(self, start: Alignment, plan: Plan) -> Alignment:
        """As far as the plan and the time go."""
        if not self.schedule.allows("refine", afterwards=AFTERWARDS):
            return start
        if not is_refinable(self._pair, start):
            return start
        left_s = self.schedule.left_s(*AFTERWARDS) - ENDING_SHARE * self._costs.of("refine")
        plan = replace(plan, budget_s=min(plan.budget_s, left_s))
        with self.clock.stage("refine") as stage:
            make_level = level_for(self._engine)
            climbed = refined(self._pair, start, plan, stage.watch, make_level)
        self.steps += climbed.steps
        self._costs.learn({"refine": self.clock.stages[-1].seconds - climbed.stepping_s})
        self.schedule.is_cut_short |= climbed.is_cut_short and plan.budget_s == left_s
        return start.climbed_to(climbed)

    def _compared(self, found: Alignment) -> Answer:
        """What was found; where time was short and it is worse than nothing, nothing."""
        pair = self._pair
        with self.stage("measure", "compare"):
            before = pair.similarity(pair.initial)
            after = pair.similarity(found.affine, found.field)
        if self.schedule.is_cut_short and after < before:
            nothing = DisplacementField.zero(found.field.grid)
            return Answer(Alignment(pair.initial, nothing, "initialise"), before, before)
        return Answer(found, before, after)


def expected_similarity(answer: Answer, last: Followed | None) -> float:
    """What the next answer is measured by: the best that there is, or else slow to go down."""
    after = answer.after if math.isfinite(answer.after) else 0.0
    if last is None or answer.is_best:
        return after
    return max(after, last.similarity + FADING * (after - last.similarity))
