"""`warpline models` without a server: the shipped folder, and the registry of a stack if it ran."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from service.cli.main import app
from service.cli.models_here import engines_here
from service.errors import ModelNotFoundError
from service.jobs.model import NewModel
from service.settings import Settings
from service.stores.build import open_stores
from tests.made_models import FakeTraining, compared, publish


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WARPLINE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


def call(*arguments: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app, ["models", *arguments, "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def train(data_dir: Path, against: str | None) -> None:
    """What a stack with this data folder has made before it was stopped."""
    stores = open_stores(Settings(data_dir=data_dir))
    work = FakeTraining(comparison=None if against is None else compared(against))
    publish(stores, data_dir / "scratch", NewModel(name="toy"), work)
    stores.close()


def test_without_a_stack_there_are_the_shipped_models_and_no_database(data_dir: Path) -> None:
    names = {model["name"] for model in call("list")["models"]}
    assert "discrete" in names
    assert call("show", "discrete")["name"] == "discrete"
    assert call("rollback", "discrete", code=2)["code"] == "nothing-to-roll-back"
    assert not data_dir.exists()


def test_what_a_stack_has_trained_is_listed_promoted_and_rolled_back(data_dir: Path) -> None:
    train(data_dir, None)
    assert call("promote", "toy", "1")["alias"] == "production"
    train(data_dir, "toy/1")
    train(data_dir, None)
    found = {model["version"]: model for model in call("list")["models"] if model["name"] == "toy"}
    assert found["1"]["aliases"] == ["production"]
    assert found["2"]["comparison"]["against"] == "toy/1"
    assert found["3"]["aliases"] == ["candidate"]
    assert call("show", "toy")["version"] == "1"
    call("promote", "toy", "2")
    assert call("promote", "toy", "3", code=2)["code"] == "not-compared"
    call("promote", "toy", "3", "--force")
    assert call("rollback", "toy")["version"] == "2"
    assert call("rollback", "toy")["version"] == "1"
    assert call("show", "toy@candidate")["version"] == "3"


def test_the_comparison_is_told_in_words(data_dir: Path) -> None:
    train(data_dir, None)
    call("promote", "toy", "1")
    train(data_dir, "toy/1")
    told = CliRunner().invoke(app, ["models", "promote", "toy", "2"]).stdout
    assert "better than toy/1 on 5 pairs" in told
    assert "dice 0.8 beside 0.7, 4 won, 1 lost" in told
    assert "toy@production is toy/2 now." in told
    assert "again" in CliRunner().invoke(app, ["models", "rollback", "toy"]).stdout


def test_a_registration_here_uses_what_the_stack_has_trained(data_dir: Path) -> None:
    with engines_here(Settings()) as models, pytest.raises(ModelNotFoundError):
        models.load("toy")
    train(data_dir, None)
    with engines_here(Settings(provider="cpu")) as models:
        assert models.load("toy").card.version == "1"
        assert models.load("discrete").card.name == "discrete"


def test_what_a_stack_has_trained_is_deleted_but_nothing_that_is_shipped(data_dir: Path) -> None:
    assert call("delete", "discrete/1", code=2)["code"] in {"conflict", "model-not-found"}
    assert not data_dir.exists()
    for _ in range(2):
        train(data_dir, None)
    assert call("delete", "toy/2", code=2)["code"] == "model-in-use"
    assert call("delete", "toy", code=2)["code"] == "validation-failed"
    assert "toy/1 is deleted." in CliRunner().invoke(app, ["models", "delete", "toy/1"]).stdout
    assert call("delete", "toy/1", code=2)["code"] == "model-not-found"
    assert [m["version"] for m in call("list")["models"] if m["name"] == "toy"] == ["2"]
