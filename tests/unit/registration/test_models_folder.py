"""Models by name, version and alias; broken ones are refused with a sentence."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from service.errors import ModelInvalidError, ModelNotFoundError
from service.registration.models_folder import ModelFolder, default_models_dir

SHIPPED = default_models_dir() / "discrete" / "1"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The shipped model as versions 1, 2 and 10."""
    for version in ("1", "2", "10"):
        folder = tmp_path / "discrete" / version
        shutil.copytree(SHIPPED, folder)
        body = json.loads((folder / "card.json").read_text())
        (folder / "card.json").write_text(json.dumps(body | {"version": version}))
    return tmp_path


def test_a_name_alone_is_the_newest_version_counted_as_numbers(root: Path) -> None:
    assert ModelFolder(root).card("discrete").version == "10"


def test_a_version_can_be_named(root: Path) -> None:
    assert ModelFolder(root).card("discrete/2").version == "2"


def test_production_moves_the_name_and_goes_back_by_the_same_call(root: Path) -> None:
    models = ModelFolder(root)
    models.set_alias("discrete", "2")
    assert models.card("discrete").version == "2"
    assert models.card("discrete@production").version == "2"
    assert models.card("discrete/10").version == "10"
    models.set_alias("discrete", "1")
    assert models.card("discrete").version == "1"
    assert [(m.version, m.aliases) for m in models.list()] == [
        ("1", ("production",)),
        ("2", ()),
        ("10", ()),
    ]


def test_aliases_can_be_read_by_whom_the_other_files_can_be_read(root: Path) -> None:
    before = os.umask(0o022)
    try:
        ModelFolder(root).set_alias("discrete", "2")
    finally:
        os.umask(before)
    assert (root / "discrete" / "aliases.json").stat().st_mode & 0o777 == 0o644
    assert not list((root / "discrete").glob(".aliases*"))


def test_an_alias_needs_a_version_that_is_there(root: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        ModelFolder(root).set_alias("discrete", "3")


@pytest.mark.parametrize(
    "ref", ["other", "discrete/3", "discrete@candidate", "../discrete", "discrete/..", "", "A b"]
)
def test_what_is_not_there_is_not_found(ref: str, root: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        ModelFolder(root).card(ref)


def test_a_changed_graph_is_refused(root: Path) -> None:
    graph = root / "discrete" / "2" / "model.onnx"
    graph.write_bytes(graph.read_bytes() + b"\0")
    with pytest.raises(ModelInvalidError, match="sha256 differs"):
        ModelFolder(root).load("discrete/2")


def test_a_missing_graph_is_refused(root: Path) -> None:
    (root / "discrete" / "2" / "model.onnx").unlink()
    with pytest.raises(ModelInvalidError, match="missing"):
        ModelFolder(root).load("discrete/2")


def test_a_card_under_another_name_is_refused_and_not_listed(root: Path) -> None:
    shutil.copytree(root / "discrete" / "1", root / "discrete" / "4")
    models = ModelFolder(root)
    with pytest.raises(ModelInvalidError, match="says discrete/1"):
        models.card("discrete/4")
    assert "4" not in {found.version for found in models.list()}


def test_a_model_with_broken_aliases_is_not_listed_and_hides_no_other(root: Path) -> None:
    shutil.copytree(root / "discrete", root / "zeta")
    for card in (root / "zeta").glob("*/card.json"):
        card.write_text(json.dumps(json.loads(card.read_text()) | {"name": "zeta"}))
    (root / "discrete" / "aliases.json").write_text("[]")
    assert {model.name for model in ModelFolder(root).list()} == {"zeta"}
    with pytest.raises(ModelInvalidError, match="aliases"):
        ModelFolder(root).card("discrete")


def test_an_engine_is_made_once(root: Path) -> None:
    models = ModelFolder(root, threads=1)
    assert models.load("discrete/1") is models.load("discrete/1")


def test_an_empty_place_has_no_models(tmp_path: Path) -> None:
    assert ModelFolder(tmp_path / "nowhere").list() == []


def test_listing_models_loads_no_kernels_and_no_runtime() -> None:
    program = (
        "import sys; from service.registration.models_folder import ModelFolder; "
        "ModelFolder().list(); "
        "print([m for m in ('numpy', 'numba', 'onnxruntime', 'torch') if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
