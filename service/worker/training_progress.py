"""A trainer's events as a job's progress: stage, fraction, and a few figures."""

import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

# How the fraction is shared: data come before, results after.
TRAIN_SHARE = (0.02, 0.90)
LATER = {"export": 0.90, "evaluate": 0.93, "compare": 0.96}
STAGES = frozenset({"check", "train", *LATER})
MOST_FIGURES, LONGEST_NAME, LARGEST = 12, 40, 1e15
# Figures are renewed at most so often, and more seldom the longer it takes: each new epoch in
# them becomes an event that is kept with the job.
RENEW_EVERY_S, RENEWALS = 1.0, 500


@dataclass
class Told:
    """What the child has told so far."""

    stage: str = "train"
    fraction: float = TRAIN_SHARE[0]
    is_done: bool = False
    model: str = "model"  # where it lies below the training's folder
    _figures: dict[str, Any] = field(default_factory=dict)
    _shown: dict[str, Any] = field(default_factory=dict)
    _shown_at: float = -math.inf
    clock: Callable[[], float] = time.monotonic
    _began: float = field(init=False)

    def __post_init__(self) -> None:
        self._began = self.clock()

    def hear(self, event: Mapping[str, Any]) -> None:
        """Take in one event; what is not as expected is left out."""
        kind = event.get("event")
        if kind == "step":
            self._hear_step(event)
        elif kind == "validation":
            self._figures["validation"] = _figures(event.get("figures"))
        elif kind == "stage" and str(event.get("stage")) in STAGES:
            self.stage = str(event["stage"])
            self.fraction = max(self.fraction, LATER.get(self.stage, self.fraction))
            self._shown_at = -math.inf
        elif kind == "done":
            self.is_done = True
            self.model = str(event.get("model", self.model))

    def detail(self) -> dict[str, Any]:
        """Figures for the job's progress; the same as before where it is too early for new ones."""
        now = self.clock()
        if now - self._shown_at >= max(RENEW_EVERY_S, (now - self._began) / RENEWALS):
            self._shown, self._shown_at = dict(self._figures), now
        return self._shown

    def _hear_step(self, event: Mapping[str, Any]) -> None:
        step, steps = _number(event.get("step")), _number(event.get("steps"))
        self.stage = "train"
        if step is not None and steps:
            low, high = TRAIN_SHARE
            self.fraction = low + (high - low) * min(1.0, max(0.0, step / steps))
        told = {name: _number(event.get(name)) for name in ("epoch", "step", "steps")}
        told["seconds_left"] = _number(event.get("seconds_left"))
        self._figures |= {name: value for name, value in told.items() if value is not None}
        self._figures["losses"] = _figures(event.get("losses"))


def _number(value: object) -> float | int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not -LARGEST < value < LARGEST:  # neither is NaN
        return None
    return value if isinstance(value, int) else float(f"{value:.6g}")


def _short(name: str) -> str:
    """Letters that JSON does not lengthen."""
    return re.sub(r"[^\w .()/-]", "?", name[:LONGEST_NAME], flags=re.ASCII)


def _figures(table: object) -> dict[str, float | int]:
    """A few finite figures under short names."""
    if not isinstance(table, Mapping):
        return {}
    found = ((_short(str(name)), _number(value)) for name, value in table.items())
    return dict([(name, value) for name, value in found if value is not None][:MOST_FIGURES])
