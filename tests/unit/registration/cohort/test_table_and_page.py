"""A cohort's table and page: what they say, in which order, and that nothing slips through."""

import csv
import io
import json
import re
from html.parser import HTMLParser

import numpy as np

from service.errors import NoContrastError
from service.registration.cohort.page import render_cohort
from service.registration.cohort.table import Row, Table, worst_first
from service.registration.png import rgb_png


def done(subject: str, verdict: str, lncc: float = 0.5) -> Row:
    metrics = {"ncc_before": 0.1, "ncc_after": 0.9, "lncc_after": lncc, "sdlogj": 0.05}
    summary = {"verdict": {"status": verdict, "reasons": ["<b>why</b>"]}, "metrics": metrics}
    return Row.of_summary(subject, summary, 1.23456)


ROWS = [
    done("good", "pass", 0.8),
    done("worse", "pass", 0.3),
    Row(id="later", state="waiting"),
    done("bad", "fail"),
    Row.of_problem("lost", NoContrastError(field="moving").problem(), 0.2),
    done("odd", "warn"),
]


def test_the_worst_come_first() -> None:
    assert [row.id for row in worst_first(ROWS)] == [
        *("lost", "bad", "odd", "worse", "good", "later"),
    ]
    assert [row.id for row in ROWS if row.has_failed] == ["bad", "lost"]


def test_the_table_is_read_by_other_programs() -> None:
    table = Table.of(ROWS)
    lines = list(csv.DictReader(io.StringIO(table.as_csv())))
    assert [line["id"] for line in lines] == [row.id for row in ROWS]
    assert (lines[0]["ncc_after"], lines[0]["seconds"], lines[0]["tre_mm_after"]) == (
        *("0.9", "1.235", ""),
    )
    assert lines[4]["problem"] == "no-contrast"
    assert table.counts == {"done": 4, "waiting": 1, "failed": 1, "pass": 2, "fail": 1, "warn": 1}
    assert list(table.counts)[-3:] == ["pass", "warn", "fail"]
    assert Table.model_validate_json(json.dumps(table.model_dump())) == table


class Cards(HTMLParser):
    """Titles, links and pictures in the order of the page."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "article":
            self.kinds.append(found["class"] or "")
        if tag == "a":
            self.links.append(found["href"] or "")
        if tag == "img":
            self.sources.append(found["src"] or "")


def test_the_page_holds_everything_and_escapes_texts() -> None:
    overlay = rgb_png(np.zeros((30, 900, 3), np.uint8))
    pictures = {"good": overlay, "bad": b"no picture"}
    page = render_cohort(Table.of(ROWS), pictures.get, {"good": 'good/"x".html'})
    cards = Cards()
    cards.feed(page)
    assert cards.kinds == [
        "subject failed",
        "subject fail",
        "subject warn",
        "subject pass",
        "subject pass",
        "subject waiting",
    ]
    assert cards.links == ['good/"x".html']
    assert len(cards.sources) == 1
    assert cards.sources[0].startswith("data:image/png;base64,")
    assert "<b>why" not in page
    assert "no-contrast" in page
    assert not re.search(r"(src|href)=\"?(https?:)?//", page)
    assert "<script" not in page
