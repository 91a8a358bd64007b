"""What a step can afford: costs of its stages as measured so far, and the time that is left."""

import time
from collections.abc import Callable, Mapping

Clock = Callable[[], float]

# A cost goes up at once and comes down slowly, by this share of the difference.
FORGETTING = 0.1
# What is left out is not measured: its cost is doubted a little each time, until it is tried again.
DOUBT = 0.02
# Costs vary from frame to frame; so much more is set aside.
RESERVE = 1.15


class Costs:
    """Seconds of each stage, learned from every step; 0 for what never ran."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def learn(self, taken: Mapping[str, float]) -> None:
        """Take note of what stages took."""
        for name, seconds in taken.items():
            known = self._seconds.get(name, 0.0)
            self._seconds[name] = max(seconds, known + FORGETTING * (seconds - known))

    def doubt(self, *names: str) -> None:
        """Think a little better of stages that were left out."""
        for name in names:
            self._seconds[name] = (1 - DOUBT) * self._seconds.get(name, 0.0)

    def of(self, *names: str) -> float:
        """What these stages will take together, with a reserve."""
        return RESERVE * sum(self._seconds.get(name, 0.0) for name in names)


class Schedule:
    """One step's budget. `is_cut_short` tells whether anything was left out for want of time."""

    def __init__(
        self, costs: Costs, budget_s: float | None, *, clock: Clock = time.perf_counter
    ) -> None:
        """The time begins to run.

        Args:
            costs: What stages take.
            budget_s: Seconds from now; None for as long as it takes.
            clock: Seconds.
        """
        self._costs = costs
        self._clock = clock
        self._ends = float("inf") if budget_s is None else clock() + budget_s
        self.is_cut_short = False

    def left_s(self, *afterwards: str) -> float:
        """What is left for now when these stages are still to come."""
        return self._ends - self._clock() - self._costs.of(*afterwards)

    def allows(self, *names: str, afterwards: tuple[str, ...]) -> bool:
        """Whether there is time for stages and what has to follow; if not, the step is cut short.

        A stage of which nothing is known yet takes no time until it has run once.
        """
        if self.left_s(*afterwards) >= self._costs.of(*names):
            return True
        self.is_cut_short = True
        self._costs.doubt(*names)
        return False
