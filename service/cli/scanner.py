"""A scanner that is played: frames at a rate, with the delays and gaps that scanners have."""

import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.registration.volume import Volume


@dataclass(frozen=True, eq=False)
class Acquired:
    """A frame: what it is called, its voxels, when it was acquired."""

    name: str
    volume: "Volume"
    acquired_at: datetime


@dataclass(frozen=True, kw_only=True)
class Timing:
    """When frames come.

    Args:
        rate_hz: Frames a second; 0: as fast as they are taken.
        jitter: Share of the interval by which a frame may be late.
        drops: Share of frames that the scanner loses.
        pause_every: After so many frames the scanner pauses; 0: never.
        pause_s: For so long.
        seed: Of the chances.
    """

    rate_hz: float = 0.0
    jitter: float = 0.0
    drops: float = 0.0
    pause_every: int = 0
    pause_s: float = 0.0
    seed: int = 0

    def due_s(self, count: int) -> Iterator[tuple[int, float]]:
        """Number, from 0, and seconds after the start of each frame that is not lost."""
        chance, paused_s = random.Random(self.seed), 0.0  # noqa: S311
        interval_s = 1 / self.rate_hz if self.rate_hz else 0.0
        for number in range(count):
            if self.pause_every and number and number % self.pause_every == 0:
                paused_s += self.pause_s
            late_s = chance.random() * self.jitter * interval_s
            if chance.random() >= self.drops:
                yield number, number * interval_s + paused_s + late_s


def play(
    frames: Iterable["Volume"],
    count: int,
    timing: Timing,
    *,
    wait: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Acquired]:
    """Each frame when it is due, as a scanner would make it.

    Args:
        frames: What is shown, `count` of them.
        count: How many there are.
        timing: When they come.
        wait: Sleeps for so many seconds.
        clock: Seconds, from any start.
    """
    due = dict(timing.due_s(count))
    started_s = clock()
    for number, volume in enumerate(frames):
        if number not in due:
            continue
        if (left_s := started_s + due[number] - clock()) > 0:
            wait(left_s)
        yield Acquired(f"{number + 1:04d}", volume, datetime.now(UTC))
