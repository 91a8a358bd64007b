"""Tables in Markdown, one for each measure of each set."""

import statistics
from collections.abc import Iterable, Sequence

from benchmarks.comparison.registry import SYSTEMS
from benchmarks.comparison.results import Row

MOST_COLUMNS = 4
NOTHING = "–"


def tables(rows: Sequence[Row]) -> str:
    """Systems by pairs: the measure, its median, and the median of the seconds."""
    parts = []
    for category in dict.fromkeys(row.category for row in rows):
        of_set = [row for row in rows if row.category == category]
        for measure in dict.fromkeys(name for row in of_set for name in row.measures):
            parts += [f"**{category}**: {measure}", "", *_table(of_set, measure), ""]
    return "\n".join(parts)


def _table(rows: Sequence[Row], measure: str) -> list[str]:
    cases = list(dict.fromkeys(row.case for row in rows if _has(rows, row.case, measure)))
    shown = cases if len(cases) <= MOST_COLUMNS else []
    titles = ["", *shown, f"median of {len(cases)}", "seconds", "processor seconds", "peak, GiB"]
    lines = ["| " + " | ".join(titles) + " |", "|---" + "|---:" * (len(titles) - 1) + "|"]
    for system in in_order(rows):
        own = [row for row in rows if row.system == system]
        cells = [_cell([row for row in own if row.case == case], measure) for case in shown]
        cells += [median_cell(own, cases, measure), *_costs(own)]
        lines.append("| " + " | ".join([title(system), *cells]) + " |")
    return lines


def summary(rows: Sequence[Row]) -> str:
    """Systems by sets: the median of each measure, and that of the processor's seconds."""
    columns = list(dict.fromkeys((row.category, name) for row in rows for name in row.measures))
    titles = ["", *(f"{category}: {measure}" for category, measure in columns)]
    lines = ["| " + " | ".join(titles) + " |", "|---" + "|---:" * len(columns) + "|"]
    for system in in_order(rows):
        cells = [_of_set(rows, system, category, measure) for category, measure in columns]
        lines.append("| " + " | ".join([title(system), *cells]) + " |")
    return "\n".join(lines)


def _of_set(rows: Sequence[Row], system: str, category: str, measure: str) -> str:
    of_set = [row for row in rows if row.category == category]
    own = [row for row in of_set if row.system == system]
    if not own:
        return ""
    cases = list(dict.fromkeys(row.case for row in of_set if measure in row.measures))
    time = _median_of(own, "processor_seconds")
    found = median_cell(own, cases, measure)
    return found if time is None else f"{found}, {time:.2g} s"


def _has(rows: Sequence[Row], case: str, measure: str) -> bool:
    """Of some systems; a prostate without marks has no distance for any."""
    return any(measure in row.measures for row in rows if row.case == case)


def in_order(rows: Iterable[Row]) -> list[str]:
    """Names of systems, in the registry's order; unknown ones last."""
    names = list(dict.fromkeys(row.system for row in rows))
    known = list(SYSTEMS)
    return sorted(names, key=lambda name: known.index(name) if name in known else len(known))


def title(system: str) -> str:
    return SYSTEMS[system].title if system in SYSTEMS else system


def by_case(rows: Iterable[Row], measure: str) -> list[float]:
    """One value for each case where there is one: that of its last turn."""
    found = {row.case: row.measures[measure] for row in rows if measure in row.measures}
    return list(found.values())


def seconds(rows: Iterable[Row]) -> float | None:
    """The median over the cases of the median over the turns."""
    return _median_of(rows, "seconds")


def median_cell(rows: Sequence[Row], cases: Sequence[str], measure: str) -> str:
    """The median, and how many pairs it is of, where it is not all."""
    values = by_case(rows, measure)
    if not values:
        return NOTHING
    told = number(statistics.median(values))
    return told if len(values) == len(cases) else f"{told} ({len(values)} of {len(cases)})"


def _cell(rows: Sequence[Row], measure: str) -> str:
    if not rows:
        return ""
    values = by_case(rows, measure)
    if values:
        return number(values[-1])
    return NOTHING if rows[-1].status == "ok" else rows[-1].status


def _costs(rows: Sequence[Row]) -> list[str]:
    names = ("seconds", "processor_seconds", "peak_gib")
    found = [_median_of(rows, name) for name in names]
    return [NOTHING if value is None else f"{value:.3g}" for value in found]


def _median_of(rows: Iterable[Row], name: str) -> float | None:
    cases: dict[str, list[float]] = {}
    for row in rows:
        if (value := getattr(row, name)) is not None and row.status == "ok":
            cases.setdefault(row.case, []).append(value)
    return statistics.median(map(statistics.median, cases.values())) if cases else None


def number(value: float) -> str:
    """Three digits after the point below 1, as overlaps are; from 1 on two, as for millimetres."""
    return f"{value:.3f}" if value < 1 else f"{value:.2f}"
