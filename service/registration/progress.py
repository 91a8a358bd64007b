"""Telling how far a registration is, and what each stage took."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service.registration.report import Stage

# Called with the stage's name and the fraction of the whole that is done. It may raise, which
# stops the work: that is how a job is cancelled.
Watch = Callable[[str, float], None]

# Rough shares of the whole time, so that a progress bar moves evenly.
SHARES = {
    "read": 0.05,
    "initialise": 0.10,
    "predict": 0.15,
    "refine": 0.40,
    "warp": 0.10,
    "measure": 0.10,
    "draw": 0.05,
    "write": 0.05,
}


def unwatched(_stage: str, _fraction: float) -> None:
    """Nobody looks."""


class StageClock:
    """Times the stages of one registration and reports the progress of the whole."""

    def __init__(self, watch: Watch = unwatched) -> None:
        self._watch = watch
        self._done = 0.0
        self.stages: list[Stage] = []

    @contextmanager
    def stage(self, name: str) -> Iterator["RunningStage"]:
        """Time what happens inside; the stage enters the list when it ends."""
        running = RunningStage(name, self._watch, self._done)
        running.tell(0.0)
        started = time.perf_counter()
        yield running
        seconds = time.perf_counter() - started
        self.stages.append(Stage(name=name, seconds=round(seconds, 4), detail=running.detail))
        self._done = min(1.0, self._done + SHARES.get(name, 0.0))


class RunningStage:
    """A stage under way."""

    def __init__(self, name: str, watch: Watch, done: float) -> None:
        self.name = name
        self.detail = ""
        self._watch = watch
        self._done = done

    def tell(self, fraction: float) -> None:
        """Report that this fraction of the stage is done."""
        share = SHARES.get(self.name, 0.0)
        self._watch(self.name, min(1.0, self._done + share * min(1.0, max(0.0, fraction))))

    def watch(self, _step: str, fraction: float) -> None:
        """The stage's own `Watch`, for the functions that it calls."""
        self.tell(fraction)
