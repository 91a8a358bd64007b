"""The tutorial tells the truth: names, error codes, and snippets that can be read."""

import ast
import re
from pathlib import Path
from xml.etree import ElementTree

from service.errors.tree import errors_by_slug
from service.igtl.connection import DEFAULT_LIMITS
from service.igtl.outputs import NAMES, STATUS_NAME

PAGE = Path(__file__).parents[3] / "docs" / "tutorials" / "slicer-openigtlink.md"
TEXT = PAGE.read_text("utf-8")


def block(language):
    return re.search(rf"^```{language}\n(.*?)^```", TEXT, re.M | re.S)[1]


def test_every_output_has_its_node_in_the_table():
    rows = dict(re.findall(r"^\| `(\w+)` \| `(\w+)` \|", TEXT, re.M))
    assert rows == NAMES
    assert f"| always | `{STATUS_NAME}` |" in TEXT


def test_errors_that_are_named_exist_and_every_one_of_the_bridge_is_named():
    table = TEXT.split("| the bridge says |")[1]
    named = {
        code
        for cell in re.findall(r"^\| (`[^|]+) \|", table, re.M)
        for code in re.findall(r"`([a-z-]+)`", cell)
    }
    known = set(errors_by_slug())
    assert named <= known
    assert {slug for slug in known if slug.startswith("igtl-")} - named == {"igtl-message"}


def test_limits_are_those_of_the_code():
    assert f"{DEFAULT_LIMITS.most_bytes >> 20} MiB" in TEXT
    assert f"silent for {DEFAULT_LIMITS.stall_s:.0f} s" in TEXT


def test_snippets_can_be_read():
    ast.parse(block("python"))
    server = ElementTree.fromstring(block("xml")).find("PlusOpenIGTLinkServer")  # noqa: S314 - ours
    image = server.find("DefaultClientInfo/ImageNames/Image").attrib
    device = f"{image['Name']}_{image['EmbeddedTransformToFrame']}"
    assert f"--device {device}" in TEXT
