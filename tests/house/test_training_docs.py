"""What the pages about training show can be trained: examples parse, options and tests exist."""

import re
from pathlib import Path

import pytest
import yaml

from trainer.config import TrainConfig, merge, parse_config, read_config
from trainer.config.explain import Option, explain

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [DOCS / "training.md", DOCS / "coming-from.md", *sorted((DOCS / "tutorials").glob("*.md"))]
RECIPES = sorted((ROOT / "trainer" / "recipes").glob("*.yaml"))
# What a fragment is laid over: complete and as permissive as can be.
BASE = {
    "data": {"pairing": "unpaired", "labels": "optional", "points": "optional"},
    "network": {"kind": "voxelmorph"},
    "losses": {"label": [{"kind": "dice"}]},
}
OPTIONS = {option.path: option for option in explain()}
SECTIONS = "|".join(name for name in TrainConfig.model_fields if name != "name")
# `section.option`, `section(kind).option`, `section.option: value` or `section kind: name`.
NAMED = re.compile(rf"`((?:{SECTIONS})(?=[.(\[ ])[^` ]*(?: kind)?(?:: [^`]+)?)`")
FILE = re.compile(r"\.(?:json|yaml|md|csv|py)$")


def by_page(pages):
    return pytest.mark.parametrize("page", pages, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)


def named_options(text: str) -> set[str]:
    return {name for name in NAMED.findall(text) if not FILE.search(name)}


def has(named: str) -> bool:
    """Whether an option of this name exists, and may have the value that is named with it."""
    if " kind: " in named:
        return named in OPTIONS
    if named.endswith(".kind") and any(p.startswith(f"{named[:-5]} kind: ") for p in OPTIONS):
        return True
    path, _, value = named.partition(": ")
    return path in OPTIONS and (not value or may_be(OPTIONS[path], value))


def may_be(option: Option, value: str) -> bool:
    choices = option.type.split(" | ")
    return len(choices) == 1 or value in choices


@by_page(PAGES)
def test_examples_are_configurations(page):
    for block in blocks(page, "yaml"):
        document = yaml.safe_load(block)
        is_whole = {"data", "network", "losses"} <= document.keys()
        assert parse_config(document if is_whole else merge(BASE, document))


@by_page(PAGES)
def test_options_that_are_named_exist(page):
    assert not {name for name in named_options(page.read_text("utf-8")) if not has(name)}


def test_a_page_that_names_what_is_not_there_is_found():
    text = "`data.pairing` `data.colour` `network kind: magic` `data.pairing: threesome` `data.csv`"
    assert {name for name in named_options(text) if not has(name)} == {
        "data.colour",
        "network kind: magic",
        "data.pairing: threesome",
    }


def test_the_table_names_every_kind_of_network_and_loss_that_they_have():
    kinds = {path for path in OPTIONS if re.match(r"(network|losses\.\w+\[\]) kind: ", path)}
    shown = named_options((DOCS / "coming-from.md").read_text("utf-8"))
    shown |= {re.sub(r"\(([\w-]+)\).*", r" kind: \1", name) for name in shown}
    ours = {f"network kind: {kind}" for kind in ("pyramid", "metric", "matching-pyramid")}
    assert kinds - ours - {"losses.field[] kind: known-displacement"} <= shown


@by_page(PAGES)
def test_tests_that_are_named_exist(page):
    for path, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page.read_text("utf-8")):
        assert (ROOT / path).is_file(), path
        assert not name or f"def {name}(" in (ROOT / path).read_text("utf-8"), name


@by_page(PAGES)
def test_files_of_the_source_that_are_named_exist(page):
    named = re.findall(r"`((?:trainer|service)/[\w/]+\.py)`", page.read_text("utf-8"))
    new = {"trainer/losses/edges.py"}  # the tutorial has it written
    assert not [path for path in set(named) - new if not (ROOT / path).is_file()]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_recipes_are_configurations_with_the_name_of_their_file(recipe):
    assert read_config([recipe]).name == recipe.stem


def test_the_loss_of_the_tutorial_works_as_it_is_written():
    pytest.importorskip("torch")
    space: dict[str, object] = {}
    for block in blocks(DOCS / "tutorials" / "your-own-loss.md", "python"):
        exec(block, space)  # noqa: S102 - our own page
    tests = [value for name, value in space.items() if name.startswith("test_")]
    assert tests
    for test in tests:
        test()
    assert space["NgfConfig"]().model_dump(exclude={"kind", "weight"}) == {"edge": 0.05}
