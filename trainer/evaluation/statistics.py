"""Figures of many pairs as a few numbers, and as tables."""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

# The row of a pair as a whole, beside those of its labels.
WHOLE = "all"
# Learn2Reg judges robustness by the 30 % of cases that went worst.
WORST_SHARE = 0.3


@dataclass(frozen=True)
class Row:
    """One line of `metrics.csv`: a pair and one of its labels, or `all` of it."""

    pair: str
    label: str
    figures: Mapping[str, float]


@dataclass(frozen=True)
class Summary:
    """A sample as a few numbers; `worst_30` is what all but the worst 30 % reach."""

    count: int
    mean: float
    std: float
    minimum: float
    quartile_1: float
    median: float
    quartile_3: float
    maximum: float
    worst_30: float


def summarise(values: Iterable[float], *, is_large_good: bool) -> Summary | None:
    """The numbers of the values that are known; None where none is.

    The deviation is of the sample (n - 1), 0 for one value. `worst_30` is the 0.3 quantile where
    large is good, the 0.7 quantile where small is.

    Source: Hering et al., Learn2Reg, TMI 2022, section IV (the 30 % quantile).
    """
    known = np.array([value for value in values if math.isfinite(value)], dtype=np.float64)
    if not known.size:
        return None
    low, median, high = np.quantile(known, [0.25, 0.5, 0.75])
    share = WORST_SHARE if is_large_good else 1 - WORST_SHARE
    return Summary(
        count=int(known.size),
        mean=float(known.mean()),
        std=float(known.std(ddof=1)) if known.size > 1 else 0.0,
        minimum=float(known.min()),
        quartile_1=float(low),
        median=float(median),
        quartile_3=float(high),
        maximum=float(known.max()),
        worst_30=float(np.quantile(known, share)),
    )


def summaries(
    rows: Sequence[Row], metrics: Mapping[str, tuple[bool, str]]
) -> dict[str, dict[str, Summary]]:
    """By label (and `all`), then by column, `*_before` and `*_initial` included."""
    labels = sorted({row.label for row in rows}, key=lambda label: (len(label), label))
    found: dict[str, dict[str, Summary]] = {}
    for label in labels:
        some = [row.figures for row in rows if row.label == label]
        columns = {}
        for metric, (is_large_good, _) in metrics.items():
            for column in (f"{metric}_before", f"{metric}_initial", metric):
                values = (figures.get(column, math.nan) for figures in some)
                if (summary := summarise(values, is_large_good=is_large_good)) is not None:
                    columns[column] = summary
        found[label] = columns
    return found


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """`metrics.csv`: what is not known is an empty cell."""
    columns: dict[str, None] = {}
    for row in sorted(rows, key=lambda row: row.label != WHOLE):
        columns |= dict.fromkeys(row.figures)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["pair", "label", *columns])
        for row in rows:
            cells = [_cell(row.figures.get(column, math.nan)) for column in columns]
            table.writerow([row.pair, row.label, *cells])


def write_summaries(path: Path, found: Mapping[str, Mapping[str, Summary]]) -> None:
    """One line for each label and column."""
    names = list(Summary.__dataclass_fields__)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["label", "metric", *names])
        for label, columns in found.items():
            for column, summary in columns.items():
                told = asdict(summary)
                table.writerow([label, column, *(_cell(told[name]) for name in names)])


def _cell(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else ""
