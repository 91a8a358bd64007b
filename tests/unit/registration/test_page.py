"""The result page: one file, nothing from outside, nothing unescaped."""

from base64 import b64decode, b64encode
from hashlib import sha256
from html.parser import HTMLParser

import numpy as np
import pytest

from service.registration.grid import Grid
from service.registration.page import render_page
from service.registration.page_gallery import gallery
from service.registration.pictures import Pictures, Scene, draw_pictures
from service.registration.report import (
    CONVENTION,
    FileReport,
    Metrics,
    ModelUsed,
    Provenance,
    Report,
    Stage,
    VerdictReport,
)
from service.registration.volume import Volume

EVIL = '"><script>alert(1)</script><img src=https://evil.example/x onerror=alert(1)>'
VOID = {"meta", "img", "input", "stop", "rect", "path", "br"}


class Reader(HTMLParser):
    """Collects tags, their attributes and the text; checks that tags are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.style = ""
        self._open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] == "style":
            self.style += data
        self.text += data

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    shape = (12, 14, 10)
    image = np.random.default_rng(5).normal(size=shape).astype(np.float32)
    labels = (image > 0).astype(np.uint8)
    scene = Scene(
        Volume(image, Grid(shape, np.diag([1.0, 2.0, 3.0, 1.0]))),
        before=image,
        warped=image,
        displacement_mm=np.zeros((*shape, 3), np.float32),
        jacobian=lambda: np.ones(shape, np.float32),
        fixed_labels=labels,
        labels_before=labels,
        warped_labels=labels,
    )
    return draw_pictures(scene)


@pytest.fixture(scope="module")
def drawn(pictures: Pictures) -> bytes:
    return gallery(pictures)


def report(text: str = "said", status: str = "pass", **metrics) -> Report:
    return Report(
        job_id=f"7 {text}",
        model=ModelUsed(name=text, version="1", sha256="ab" * 32),
        answered_by="refine",
        stages=[Stage(name="refine", seconds=1.25, detail=text), Stage(name="warp", seconds=0.5)],
        metrics=Metrics(ncc_before=0.25, ncc_after=0.875, **metrics),
        verdict=VerdictReport(status=status, reasons=[text]),
        warnings=[text],
        files={"warped.nii.gz": FileReport(bytes=1_500_000, sha256="cd" * 32, media_type=text)},
        provenance=Provenance(
            inputs={"fixed": "ef" * 32}, software=text, provider=text, seed=3, settings={text: text}
        ),
    )


def read(page: bytes) -> Reader:
    reader = Reader()
    reader.feed(page.decode())
    return reader


def test_texts_of_the_report_cannot_become_markup(drawn):
    page = render_page(report(EVIL, dice_after={EVIL: 0.5}), drawn)
    reader = read(page)
    assert not reader.of("script")
    assert all(image["src"].startswith("data:image/png;base64,") for image in reader.of("img"))
    assert not any(name.startswith("on") for _, attributes in reader.tags for name in attributes)
    assert reader.text.count(EVIL) >= 9


def test_nothing_is_loaded_from_outside(drawn):
    reader = read(render_page(report(), drawn))
    links = [
        value
        for _, attributes in reader.tags
        for name, value in attributes.items()
        if name in ("src", "href", "action", "srcset", "data")
    ]
    assert links
    assert all(link.startswith("data:") for link in links)
    assert "url(" not in reader.style
    assert "@import" not in reader.style


def test_policy_allows_exactly_this_style_sheet(drawn):
    reader = read(render_page(report(), drawn))
    (policy,) = [m["content"] for m in reader.of("meta") if "http-equiv" in m]
    digest = b64encode(sha256(reader.style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert not any("style" in attributes for _, attributes in reader.tags)


def test_pictures_have_words_and_switches_have_labels(pictures, drawn):
    reader = read(render_page(report(), drawn))
    assert all(image["alt"] for image in reader.of("img"))
    buttons = [button["id"] for button in reader.of("input")]
    assert sorted(buttons) == sorted(label["for"] for label in reader.of("label"))
    assert len(set(buttons)) == len(buttons)
    shown = {sha256(b64decode(i["src"].split(",")[1])).digest() for i in reader.of("img")}
    assert shown == {sha256(png).digest() for png in pictures.png.values()}


@pytest.mark.parametrize(
    ("status", "words"),
    [("pass", "passed"), ("warn", "Look before you use"), ("fail", "do not use it")],
)
def test_verdict_comes_first_and_in_words(drawn, status, words):
    reader = read(render_page(report("the reason", status), drawn))
    assert words in reader.text
    said = reader.text.index("the reason", reader.text.index(words))
    assert said < reader.text.index("Pictures")


def test_figures_files_stages_and_convention_are_there(drawn):
    text = read(render_page(report(tre_mm_before=12.5, tre_mm_after=1.75), drawn)).text
    expected = ("0.250 → 0.875", "12.50", "1.75", "1.250", "1.750", "cd" * 32, "ef" * 32, "1.5 MB")
    for words in (*expected, CONVENTION):
        assert words in text


def test_what_was_not_measured_is_left_out(drawn):
    text = read(render_page(report(), drawn)).text
    assert "Dice" not in text
    assert "TRE" not in text
    assert "None" not in text
    assert " nan" not in text


def test_a_model_is_not_said_to_have_answered_where_refinement_did(drawn):
    """A network may have been left out, or what it found dropped; the stages tell."""
    text = read(render_page(report("net"), drawn)).text
    assert "comes from refinement for this pair (model net/1 was chosen;" in text
    left_out = report("net").model_copy(update={"answered_by": "initialise"})
    assert "comes from the initial alignment alone (" in read(render_page(left_out, drawn)).text
