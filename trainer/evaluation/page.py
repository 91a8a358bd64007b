"""`evaluation.html`: one page without scripts or requests, for a browser without a network."""

import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from service.registration.page_frame import framed, sheet
from service.registration.page_tables import MISSING
from trainer.evaluation.comparison import Comparison
from trainer.evaluation.measures import BY_LABEL, METRICS, WHEN
from trainer.evaluation.plots import PLOT_CSS, paired_plot, spread_plot
from trainer.evaluation.statistics import WHOLE, Row, Summary

if TYPE_CHECKING:
    from trainer.evaluate import Evaluation

MOST_LABELS_PLOTTED = 40
SHARES = ("folding_fraction", "non_diffeomorphic_volume")


def write_page(out: Path, found: "Evaluation", second: "Evaluation | None" = None) -> None:
    """Write the page of one evaluation; with a second one, the comparison too."""
    name = f"{found.model['name']}/{found.model['version']}"
    body = f"""<h1>Warpline evaluation</h1>
<section class="card verdict"><strong>{escape(name)}</strong>\
<p class="soft">{_how(found)}</p></section>
{_failures(found)}
{_tiles(found.statistics[WHOLE])}
{_comparison(found, second)}
<h2>All pairs</h2>
<div class="card wide">{_overall(found.statistics[WHOLE])}</div>
{_labels(found)}
{_gallery("Worst pairs", found.worst, found)}
{_gallery("Best pairs", found.best, found)}"""
    footer = (
        f"Every pair is in metrics.csv. Pair set <code>{found.pair_set}</code>. For research; not "
        "a medical device."
    )
    page = framed(f"Evaluation of {name}", sheet() + PLOT_CSS, body, footer)
    (out / "evaluation.html").write_text(page, "utf-8")


def _how(found: "Evaluation") -> str:
    verdicts = list(found.verdicts.values())
    counts = [f"{verdicts.count(v)} {v}" for v in ("pass", "warn", "fail") if v in verdicts]
    return escape(
        f"{found.pairs} pairs ({found.options['data']}) by the serving pipeline: initialise "
        f"{found.initialised}, refine {found.options['refine']}. Verdicts: {', '.join(counts)}. "
        "Figures: as the headers place the pair → after the initial alignment → as delivered."
    )


def _failures(found: "Evaluation") -> str:
    if not found.failures:
        return ""
    items = "".join(
        f"<li>{escape(failure.pair)}: {escape(failure.detail)} (<code>{failure.code}</code>)</li>"
        for failure in found.failures
    )
    return (
        f'<section class="card warnings"><h3>{len(found.failures)} pairs were not registered and '
        f"count in no figure</h3><ul>{items}</ul></section>"
    )


def _tiles(whole: Mapping[str, Summary]) -> str:
    wanted = {"dice": 3, "tre_mm": 2, "hd95_mm": 2, "centroid_mm": 2, "ncc": 3}
    cells = []
    for column, digits in wanted.items():
        if column in whole:
            steps = (whole.get(f"{column}{when}") for when in WHEN)
            value = " → ".join(f"{step.mean:.{digits}f}" for step in steps if step is not None)
            cells.append(f"<div><dt>{METRICS[column][1]}</dt><dd>{value}</dd></div>")
    if "folding_fraction" in whole:
        folded = f"{100 * whole['folding_fraction'].mean:.4f} %"
        cells.append(f"<div><dt>Folded voxels</dt><dd>{folded}</dd></div>")
    cells.append(f"<div><dt>Time a pair</dt><dd>{whole['seconds'].mean:.2f} s</dd></div>")
    return f'<dl class="tiles">{"".join(cells)}</dl>'


def _overall(whole: Mapping[str, Summary]) -> str:
    head = ("", "mean ± std", "median", "quartiles", "worst 30 % at", "range", "pairs")
    rows = []
    for metric, (_, title) in METRICS.items():
        for when, name in zip(WHEN, (", before", ", initial", ""), strict=True):
            if f"{metric}{when}" in whole:
                rows.append((f"{title}{name}", *_summary_cells(whole[f"{metric}{when}"])))
    return _table(head, rows)


def _summary_cells(s: Summary) -> tuple[str, ...]:
    return (
        f"{s.mean:.4g} ± {s.std:.3g}",
        f"{s.median:.4g}",
        f"{s.quartile_1:.4g} – {s.quartile_3:.4g}",
        f"{s.worst_30:.4g}",
        f"{s.minimum:.4g} – {s.maximum:.4g}",
        str(s.count),
    )


def _labels(found: "Evaluation") -> str:
    labels = [label for label in found.statistics if label != WHOLE]
    if not labels:
        return ""
    plotted = labels[:MOST_LABELS_PLOTTED]
    plot = spread_plot(
        {
            n: (_values(found.rows, n, "dice_initial"), _values(found.rows, n, "dice"))
            for n in plotted
        }
    )
    rows = []
    for label in labels:
        columns, cells = found.statistics[label], []
        for metric in BY_LABEL:
            for column in (f"{metric}{when}" for when in WHEN):
                summary = columns.get(column)
                cells.append(MISSING if summary is None else f"{summary.mean:.3f}")
        count = columns["dice"].count if "dice" in columns else 0
        rows.append((escape(label), *cells, str(count)))
    head = ["Label"]
    for _, title in BY_LABEL.values():
        head += [f"{title}, before", "initial", "after"]
    table = _table((*head, "pairs"), rows)
    return (
        '<h2>Labels</h2><div class="card"><p class="soft">Dice of each label over all pairs: '
        "after the initial alignment in grey, as delivered in blue; box from quartile to quartile, "
        f"line at the median, whiskers over the range.</p>{plot}</div>"
        f'<div class="card wide">{table}</div>'
    )


def _values(rows: list[Row], label: str, column: str) -> list[float]:
    return [row.figures[column] for row in rows if row.label == label and column in row.figures]


def _comparison(found: "Evaluation", second: "Evaluation | None") -> str:
    made: Comparison | None = found.comparison
    if made is None or second is None:
        return ""
    other = escape(f"{second.model['name']}/{second.model['version']}")
    name = escape(f"{found.model['name']}/{found.model['version']}")
    rows = [
        (
            METRICS[metric][1],
            f"{p.first:.4g}",
            f"{p.second:.4g}",
            f"{p.mean_difference:+.3g} ± {p.std_difference:.2g}",
            f"{p.wins} / {p.losses} / {p.ties}",
            MISSING if p.p is None else f"{p.p:.2g}",
            p.first_is,
        )
        for metric, p in made.metrics.items()
    ]
    head = ("", name, other, "difference", "better / worse / same", "p", "the first is")
    decided = METRICS[made.decided_by][1] if made.decided_by else "nothing"
    plot = ""
    if made.decided_by:
        ours, theirs = (_whole(one.rows, made.decided_by) for one in (found, second))
        pairs = [(theirs[n], ours[n]) for n in ours if n in theirs]
        plot = paired_plot(pairs, f"{decided}, {other}", f"{decided}, {name}")
    return (
        f"<h2>Against {other}</h2>"
        f'<section class="card verdict"><strong>{_sentence(made, name, other)}</strong>'
        f'<p class="soft">Decided by {decided} on the same pairs; p by the signed-rank test.</p>'
        f'</section><div class="card wide">{_table(head, rows)}</div>'
        f'<div class="card">{plot}</div>'
    )


def _whole(rows: list[Row], column: str) -> dict[str, float]:
    return {row.pair: row.figures[column] for row in rows if row.label == WHOLE}


def _sentence(made: Comparison, name: str, other: str) -> str:
    if made.first_is == "no clear difference":
        return f"No clear difference between {name} and {other}."
    return f"{name} is {made.first_is} than {other}."


def _gallery(title: str, names: list[str], found: "Evaluation") -> str:
    if not names:
        return ""
    figures = "".join(_pair(name, found, title) for name in names)
    return (
        f"<h2>{title}</h2><p class=soft>Fixed in green, moving in magenta, grey where they agree; "
        "outlines of fixed labels in blue, of moving ones in orange, white where they coincide. "
        f"The whole result of each lies in <code>pairs/</code>.</p>{figures}"
    )


def _pair(name: str, found: "Evaluation", group: str) -> str:
    row = next(r for r in found.rows if r.pair == name and r.label == WHOLE)
    told = []
    for metric, (_, title) in METRICS.items():
        value, before = (row.figures.get(m, math.nan) for m in (metric, f"{metric}_initial"))
        is_dull = metric == "seconds" or (metric in SHARES and value == 0)
        if math.isfinite(value) and not is_dull:
            start = f"{before:.3g} → " if math.isfinite(before) else ""
            told.append(f"{title} {start}{value:.3g}")
    pictures, mark = found.pictures[name], f"{group[0]}{list(found.pictures).index(name)}"
    buttons = "".join(
        f'<input type="radio" name="{mark}" id="{mark}-{n}"{" checked" * (n == 0)}>'
        f'<label for="{mark}-{n}">{title}</label>'
        for n, title in enumerate(pictures)
    )
    images = "".join(
        f'<img alt="{escape(name)}, {label}" src="data:image/png;base64,'
        f'{b64encode(data).decode()}">'
        for label, data in pictures.items()
    )
    return (
        f'<figure class="card"><figcaption><h3>{escape(name)}: {found.verdicts[name]}</h3>'
        f'{"; ".join(told)}.</figcaption><div class="compare">{buttons}<div class="screen">'
        f"{images}</div></div></figure>"
    )


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    def line(tag: str, row: tuple[str, ...]) -> str:
        cells = (
            f"<{tag}{' class=number' if n else ''}>{cell}</{tag}>" for n, cell in enumerate(row)
        )
        return f"<tr>{''.join(cells)}</tr>"

    body = "".join(line("td", row) for row in rows)
    return f"<table><thead>{line('th', head)}</thead><tbody>{body}</tbody></table>"
