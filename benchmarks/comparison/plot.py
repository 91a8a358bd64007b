"""Accuracy against seconds as an SVG picture, readable on light and on dark pages."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.comparison.results import Row
from benchmarks.comparison.tables import by_case, in_order, seconds, title

WIDTH, HEIGHT = 760, 460
LEFT, RIGHT, TOP, BOTTOM = 64, 170, 24, 52
LINE_HEIGHT = 15
STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #1f2328 }
  .grid { stroke: #d0d7de; stroke-width: 1 }
  .ours { fill: #0969da; stroke: none }
  .other { fill: #9a6700; stroke: none }
  .leader { stroke: #8c959f; stroke-width: 1 }
  text.ours { font-weight: 600 }
  text.other { fill: #1f2328 }
  @media (prefers-color-scheme: dark) {
    text, text.other { fill: #e6edf3 }
    .grid { stroke: #30363d }
    .ours { fill: #58a6ff }
    .other { fill: #d29922 }
    .leader { stroke: #6e7681 }
  }
"""


@dataclass(frozen=True)
class Dot:
    """One system: medians."""

    system: str
    seconds: float
    value: float

    @property
    def colour(self) -> str:
        return "ours" if self.system.startswith("warpline") else "other"


@dataclass(frozen=True)
class Axes:
    """Seconds by their logarithm to the right; up is better for overlaps, down for distances."""

    seconds: tuple[float, float]
    values: tuple[float, float]

    @classmethod
    def around(cls, dots: Sequence[Dot]) -> "Axes":
        times, values = [dot.seconds for dot in dots], [dot.value for dot in dots]
        room = 0.08 * (max(values) - min(values)) or 0.1
        return cls((min(times) / 1.3, max(times) * 1.3), (min(values) - room, max(values) + room))

    def x(self, value: float) -> float:
        low, high = map(math.log, self.seconds)
        return LEFT + (WIDTH - LEFT - RIGHT) * (math.log(value) - low) / (high - low)

    def y(self, value: float) -> float:
        low, high = self.values
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low)


def in_common(rows: Sequence[Row], measure: str) -> list[Row]:
    """The rows of the pairs on which every system has the measure, if it has it at all."""
    cases: dict[str, set[str]] = {}
    for row in rows:
        if measure in row.measures:
            cases.setdefault(row.system, set()).add(row.case)
    common = set.intersection(*cases.values()) if cases else set()
    return [row for row in rows if row.case in common]


def dots(rows: Sequence[Row], measure: str) -> list[Dot]:
    """The systems that have both a time and the measure; not the start."""
    found = []
    for system in in_order(rows):
        own = [row for row in rows if row.system == system]
        values, time = by_case(own, measure), seconds(own)
        if values and time is not None and system != "identity":
            found.append(Dot(system, time, statistics.median(values)))
    return found


def plot(rows: Sequence[Row]) -> str:
    """The first measure of the rows against their seconds, over the pairs in common.

    Raises:
        ValueError: If no system has both.
    """
    measure = next((name for row in rows for name in row.measures), "")
    common = in_common(rows, measure)
    shown = dots(common, measure)
    if not shown:
        raise ValueError("There is nothing to draw yet.")
    axes = Axes.around(shown)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(measure)} against seconds</title>",
        f"<style>{STYLE}</style>",
        *_grid(axes),
        *_names(measure, list(dict.fromkeys(row.case for row in common))),
        *_marks(axes, shown),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _grid(axes: Axes) -> list[str]:
    parts = []
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    for tick in _log_ticks(*axes.seconds):
        x = axes.x(tick)
        parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{bottom}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{tick:g}</text>')
    for tick in _ticks(*axes.values):
        y = axes.y(tick)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    return parts


def _names(measure: str, cases: Sequence[str]) -> list[str]:
    of = cases[0] if len(cases) == 1 else f"median of {len(cases)} pairs"
    middle = (LEFT + WIDTH - RIGHT) / 2
    below = "seconds from files to files, two threads"
    return [
        f'<text x="{middle}" y="{HEIGHT - 12}" text-anchor="middle">{below}</text>',
        f'<text x="{LEFT - 48}" y="{TOP - 8}">{escape(f"{measure}, {of}")}</text>',
    ]


def _marks(axes: Axes, shown: Sequence[Dot]) -> list[str]:
    """Dots with their names to the right, moved apart where they would touch."""
    parts = []
    taken = [(axes.x(dot.seconds) - 6, axes.y(dot.value), 12.0) for dot in shown]
    for dot in sorted(shown, key=lambda dot: axes.y(dot.value)):
        x, y = axes.x(dot.seconds), axes.y(dot.value)
        name = title(dot.system).replace("`", "")
        free = _free(taken, x + 10, y, 6.6 * len(name))
        taken.append((x + 10, free, 6.6 * len(name)))
        parts.append(f'<circle class="{dot.colour}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>')
        if abs(free - y) > 1:
            parts.append(f'<path class="leader" d="M{x:.1f} {y:.1f}L{x + 9:.1f} {free:.1f}"/>')
        parts.append(
            f'<text class="{dot.colour}" x="{x + 10:.1f}" y="{free + 4:.1f}">{escape(name)}</text>'
        )
    return parts


def _free(taken: Sequence[tuple[float, float, float]], x: float, y: float, width: float) -> float:
    """The next height, downwards, at which a name does not touch another."""
    while any(
        abs(y - other_y) < LINE_HEIGHT and x < other_x + other_width and other_x < x + width
        for other_x, other_y, other_width in taken
    ):
        y += 1.0
    return y


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    return [float(f"{tick:g}") for tick in ticks if low <= tick <= high]


def _ticks(low: float, high: float) -> list[float]:
    step = 10.0 ** math.floor(math.log10((high - low) / 6))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 6)
    first = math.ceil(low / step)
    return [float(f"{n * step:.6g}") for n in range(first, math.floor(high / step) + 1)]
