"""Small plots as SVG: boxes of a figure before and after, and one model against another."""

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

PLOT_CSS = """
.plot { width: 100%; height: auto; max-width: 760px; display: block; }
.plot text { fill: var(--soft); font-size: 12px; }
.plot.square { max-width: 420px; }
.card + .card { margin-top: 12px; }
.plot .rule { stroke: var(--line); stroke-width: 1; }
.plot .before { fill: var(--soft); stroke: var(--soft); }
.plot .after { fill: var(--accent); stroke: var(--accent); }
.plot .box { fill-opacity: 0.25; }
.plot .dot { fill-opacity: 0.6; stroke: none; }
.compare input:nth-of-type(4):checked ~ .screen img:nth-of-type(4) { display: block; }
"""
WIDTH, LEFT, ROW = 760, 90, 26


def spread_plot(spreads: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> str:
    """One row for each name: boxes before and after, on an axis from 0 to 1."""
    height = ROW * len(spreads) + 24
    parts = [_axis_line(share, height) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    for n, (name, (before, after)) in enumerate(spreads.items()):
        middle = ROW * n + ROW / 2
        parts.append(
            f'<text x="{LEFT - 10}" y="{middle + 4}" text-anchor="end">{escape(name)}</text>'
        )
        parts.append(_box(before, middle - 5, "before") + _box(after, middle + 5, "after"))
    return _svg(WIDTH, height, "Spread of each label before and after", parts)


def _axis_line(share: float, height: int) -> str:
    x = _x(share)
    return (
        f'<line class="rule" x1="{x}" x2="{x}" y1="0" y2="{height - 20}"/>'
        f'<text x="{x}" y="{height - 5}" text-anchor="middle">{share:g}</text>'
    )


def _x(value: float) -> float:
    return round(LEFT + (WIDTH - LEFT - 20) * min(max(value, 0.0), 1.0), 1)


def _box(values: Sequence[float], y: float, look: str) -> str:
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return ""
    least, low, median, high, most = (_x(v) for v in np.quantile(known, [0, 0.25, 0.5, 0.75, 1]))
    return (
        f'<g class="{look}"><line x1="{least}" x2="{most}" y1="{y}" y2="{y}"/>'
        f'<rect class="box" x="{low}" y="{y - 4}" width="{max(high - low, 1):.1f}" height="8"/>'
        f'<line x1="{median}" x2="{median}" y1="{y - 4}" y2="{y + 4}" stroke-width="2.5"/></g>'
    )


def paired_plot(pairs: Sequence[tuple[float, float]], across: str, up: str) -> str:
    """A dot for each pair, one model along x, the other along y; equal ones lie on the line."""
    known = np.array([pair for pair in pairs if all(map(math.isfinite, pair))])
    if not len(known):
        return ""
    low, high = float(known.min()), float(known.max())
    room = (high - low) * 0.06 or 0.05
    low, high, side = low - room, high + room, 320

    def place(value: float) -> float:
        return round((value - low) / (high - low) * side, 1)

    dots = [
        f'<circle class="after dot" cx="{60 + place(x)}" cy="{side + 8 - place(y)}" r="4"/>'
        for x, y in known
    ]
    frame = (
        f'<line class="rule" x1="60" y1="{side + 8}" x2="{60 + side}" y2="8"/>'
        f'<line class="rule" x1="60" y1="{side + 8}" x2="{60 + side}" y2="{side + 8}"/>'
        f'<line class="rule" x1="60" y1="{side + 8}" x2="60" y2="8"/>'
        f'<text x="60" y="{side + 24}">{low:.3g}</text>'
        f'<text x="{60 + side}" y="{side + 24}" text-anchor="end">{high:.3g}</text>'
        f'<text x="{60 + side / 2}" y="{side + 24}" text-anchor="middle">{escape(across)}</text>'
        f'<text transform="translate(52 {8 + side / 2}) rotate(-90)" '
        f'text-anchor="middle">{escape(up)}</text>'
    )
    return _svg(60 + side + 10, side + 32, f"{escape(up)} against {escape(across)}", [frame, *dots])


def _svg(width: int, height: int, meaning: str, parts: Sequence[str]) -> str:
    look = "plot" if width == WIDTH else "plot square"
    return (
        f'<svg class="{look}" viewBox="0 0 {width} {height}" role="img" aria-label="{meaning}">'
        f"{''.join(parts)}</svg>"
    )
