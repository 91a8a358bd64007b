"""The documents tell the truth: commands exist, links lead somewhere, pictures are small."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from service.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "benchmarks" / "README.md",
        *(ROOT / "deploy").rglob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "trainer" / "recipes").glob("*.md"),
    ]
)


def by_page(argument: str = "page"):
    return pytest.mark.parametrize(argument, PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@by_page()
def test_make_targets_exist(page):
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text("utf-8"), re.MULTILINE))
    assert named <= targets


@by_page()
def test_warpline_commands_and_options_exist(page):
    from service.cli.main import app

    root = get_command(app)
    for line in re.findall(
        r"(?:^|`|\$ |/)warpline ([a-z][^`\n|#]*)", page.read_text("utf-8"), re.M
    ):
        words = line.split()
        command = root
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        assert command is not root, f"warpline {line}"
        options = {name for parameter in command.params for name in parameter.opts}
        named = {word.split("=")[0] for word in words if word.startswith("--")}
        assert named - {"--help"} <= options, f"warpline {line}"


@by_page()
def test_modules_that_are_run_exist_with_their_options(page):
    text = page.read_text("utf-8").replace("\\\n", " ")
    for module, rest in re.findall(
        r"python -m ((?:benchmarks|service|tests|trainer)[\w.]*)([^`\n|#]*)", text
    ):
        place = ROOT / module.replace(".", "/")
        sources = [place.with_suffix(".py"), place / "__main__.py"]
        code = next((source.read_text("utf-8") for source in sources if source.is_file()), None)
        assert code is not None, f"python -m {module}"
        for option in re.findall(r"--[a-z][a-z-]+", rest):
            assert f'"{option}"' in code, f"python -m {module} {option}"


@by_page()
def test_links_lead_somewhere(page):
    text = re.sub(r"`[^`\n]*`", "", page.read_text("utf-8"))  # code has brackets too
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    local = [link for link in links if not link.startswith(("http://", "https://", "mailto:"))]
    assert not [link for link in local if not (page.parent / link).exists()]


@by_page()
def test_settings_named_in_documents_exist(page):
    variables = {f"WARPLINE_{name.upper()}" for name in Settings.model_fields}
    others = {"WARPLINE_BIND", "WARPLINE_URL", "WARPLINE_API_KEY"}  # compose's, and the client's
    named = set(re.findall(r"WARPLINE_[A-Z0-9_]*[A-Z0-9]", page.read_text("utf-8")))
    assert named <= variables | others


def test_pictures_are_small():
    for picture in (ROOT / "docs" / "images").glob("*"):
        assert picture.stat().st_size < 150_000, picture.name
