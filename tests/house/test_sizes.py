"""Short enough to see whole: files up to 400 lines, functions up to 50 (ruff counts arguments)."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("service", "trainer", "tests", "benchmarks", "docs")
SOURCES = sorted(
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*.py")
    if "pb" not in path.relative_to(ROOT).parts
)


def functions_of(path: Path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file_and_its_functions_are_short(path):
    assert len(path.read_text("utf-8").splitlines()) <= 400
    for function in functions_of(path):
        start = function.body[0].lineno
        if ast.get_docstring(function) and len(function.body) > 1:
            start = function.body[1].lineno
        assert function.end_lineno - start < 50, function.name


def test_rooms_have_one_subject():
    vague = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}
    assert not [path for path in SOURCES if path.stem in vague]
