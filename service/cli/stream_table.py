"""What `warpline stream` shows while it works: a table in a terminal, else a line a frame."""

import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from service.cli import screen
from service.client.live_answers import LiveAnswer
from service.client.live_frames import Counters

if TYPE_CHECKING:
    from rich.console import RenderableType

REFRESH_HZ = 8
ROWS = 8
COLOURS = {"pass": "green", "warn": "yellow", "fail": "bold red"}


@dataclass
class Shown:
    """The last answers, and what became of all frames."""

    counters: Counters
    is_terminal: bool = field(default_factory=lambda: sys.stderr.isatty())  # noqa: PLW0108 - not that of the import
    state: str = "waiting for frames"
    rows: deque[tuple[str, LiveAnswer]] = field(default_factory=lambda: deque(maxlen=ROWS))

    def tell(self, name: str, answer: LiveAnswer) -> None:
        """An answer came."""
        self.state = "live"
        self.rows.append((name, answer))
        if not self.is_terminal:
            screen.stdout().print(sentence_of(name, answer), soft_wrap=True)
            screen.flush()

    def table(self) -> "RenderableType":
        """The table as it is now."""
        from rich.text import Text

        made = screen.table(
            "frame", "ms", "server ms", "shift mm", "median mm", "max mm", "verdict"
        )
        made.title, made.title_justify = self.state, "left"
        for name, answer in self.rows:
            made.add_row(
                name,
                f"{answer.round_trip_ms:.0f}",
                f"{answer.latency_ms:.0f}",
                _shift(answer),
                f"{answer.median_mm:.1f}",
                f"{answer.max_mm:.1f}",
                Text(answer.verdict, COLOURS.get(answer.verdict, "")),
            )
        made.caption, made.caption_justify = totals(self.counters), "left"
        return made


@contextmanager
def showing(shown: Shown, *, is_shown: bool) -> Iterator[None]:
    """Show the table on stderr while the block runs."""
    if not (is_shown and shown.is_terminal):
        yield
        return
    from rich.live import Live

    with Live(get_renderable=shown.table, console=screen.stderr(), refresh_per_second=REFRESH_HZ):
        yield


def sentence_of(name: str, answer: LiveAnswer) -> str:
    """An answer on one line."""
    why = f"  {' '.join(answer.reasons)}" if answer.reasons else ""
    return (
        f"{name}  {answer.verdict}  {answer.round_trip_ms:.0f} ms  shift {_shift(answer)} mm, "
        f"at most {answer.max_mm:.1f} mm{why}"
    )


def totals(counters: Counters) -> str:
    """What became of all frames, on one line."""
    p50, p95, p99 = counters.percentiles_ms(50, 95, 99)
    gone = counters.overtaken + counters.dropped
    text = f"{counters.answered} answered, {gone} dropped"
    if counters.answered:
        text += f"; ms from frame to answer: p50 {p50:.0f}, p95 {p95:.0f}, p99 {p99:.0f}"
    for count, name in (
        (counters.refused, "refused"),
        (counters.lost, "lost"),
        (counters.reconnects, "reconnects"),
    ):
        text += f"; {count} {name}" if count else ""
    return text


def _shift(answer: LiveAnswer) -> str:
    return " ".join(f"{x:+.1f}" for x in answer.shift_mm)
