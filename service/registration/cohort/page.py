"""`cohort.html`: every subject at a glance, worst first, on one page that needs no network.

The same look and the same frame as a report's page.
"""

from base64 import b64encode
from collections.abc import Callable, Mapping
from html import escape
from importlib.metadata import version

from service.registration.cohort.table import Row, Table, worst_first
from service.registration.page_frame import framed, made_by, sheet
from service.registration.png import thumbnail

THUMBNAIL_PX = 460
# A page is to open in a browser: of larger cohorts only the worst are shown with pictures.
MOST_PICTURES = 400

WORDS = {"pass": "✓ pass", "warn": "! warn", "fail": "✕ fail"}

# The overlay of a subject as PNG, if there is one.
Overlay = Callable[[str], bytes | None]


def render_cohort(table: Table, overlay: Overlay, links: Mapping[str, str]) -> str:
    """The whole page.

    Args:
        table: Every subject.
        overlay: Asked for the overlay of a subject by its id.
        links: Where a subject's report is, by its id; relative to the page.
    """
    cards = "\n".join(
        _card(row, overlay if number < MOST_PICTURES else _no_picture, links.get(row.id))
        for number, row in enumerate(worst_first(table.subjects))
    )
    body = f"""<h1>Warpline cohort</h1>
{_tiles(table)}
<h2>Subjects, worst first</h2>
<p class="soft">Fixed in green, moving in magenta, before and after; grey where they agree.</p>
<div class="subjects">
{cards}
</div>"""
    title = f"Cohort: {len(table.subjects)} subjects"
    style = sheet() + sheet("cohort/cohort.css")
    return framed(title, style, body, made_by(f"warpline {version('warpline')}"))


def _tiles(table: Table) -> str:
    shown = {"Subjects": len(table.subjects)}
    shown |= {name.capitalize(): count for name, count in table.counts.items()}
    cells = "".join(f"<div><dt>{name}</dt><dd>{count}</dd></div>" for name, count in shown.items())
    return f'<dl class="tiles">{cells}</dl>'


def _card(row: Row, overlay: Overlay, link: str | None) -> str:
    name = escape(row.id)
    title = name if link is None else f'<a href="{escape(link, quote=True)}">{name}</a>'
    kind = row.verdict or row.state
    words = WORDS.get(kind, row.state)
    texts = [_figures(row), *map(escape, row.reasons)]
    if row.problem:
        texts.append(escape(f"{row.problem.get('code')}: {row.problem.get('detail')}"))
    told = "".join(f"<p>{text}</p>" for text in texts if text)
    return (
        f'<article class="subject {kind}"><h3>{title}<span>{words}</span></h3>'
        f"{_picture(row, overlay)}{told}</article>"
    )


def _picture(row: Row, overlay: Overlay) -> str:
    full = overlay(row.id) if row.state == "done" else None
    small = None if full is None else thumbnail(full, THUMBNAIL_PX)
    if small is None:
        return ""
    meaning = escape(f"{row.id}: fixed and moving overlaid, before and after", quote=True)
    return (
        f'<img loading="lazy" alt="{meaning}" '
        f'src="data:image/png;base64,{b64encode(small).decode()}">'
    )


def _no_picture(_subject: str) -> bytes | None:
    return None


def _figures(row: Row) -> str:
    told = [
        _change("NCC", row.ncc_before, row.ncc_after, 3),
        _change("Dice", row.mean_dice_before, row.mean_dice_after, 3),
        _change("TRE, mm", row.tre_mm_before, row.tre_mm_after, 2),
        "" if row.folding_fraction is None else f"folding {100 * row.folding_fraction:.3f} %",
        "" if row.sdlogj is None else f"SDlogJ {row.sdlogj:.3f}",
        "" if row.seconds is None else f"{row.seconds:.1f} s",
    ]
    return " · ".join(filter(None, told))


def _change(name: str, before: float | None, after: float | None, digits: int) -> str:
    if after is None:
        return ""
    start = "–" if before is None else f"{before:.{digits}f}"
    return f"{name} {start} → {after:.{digits}f}"
