"""`/models`: cards are shown, aliases are moved, and an order for what is not there is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

from service.registration.card import (
    Card,
    InputTensor,
    Intensity,
    ModelGrid,
    OutputTensor,
    Training,
)
from service.registration.models_folder import ModelFolder
from tests.unit.gateway.conftest import Api, is_problem


def card(version: str) -> Card:
    return Card(
        name="toy",
        version=version,
        summary="Moves nothing.",
        inputs=(InputTensor(name="a", role="fixed"), InputTensor(name="b", role="moving")),
        output=OutputTensor(name="u", kind="displacement"),
        grid=ModelGrid(voxels=1000),
        intensity=Intensity(rule="none"),
        providers=("cpu",),
        opset=20,
        sha256="0" * 64,
        modalities=("any",),
        anatomy=("any",),
        training=Training(method="none", configuration={}, data="none"),
        licence="Apache-2.0",
    )


@pytest.fixture
def two_versions(make_api: Callable[..., Api], tmp_path: Path) -> Api:
    for version in ("1", "2"):
        folder = tmp_path / "models" / "toy" / version
        folder.mkdir(parents=True)
        (folder / "card.json").write_text(card(version).model_dump_json())
    return make_api(models_dir=tmp_path / "models")


def test_models_are_listed_with_their_cards(two_versions: Api) -> None:
    listed = two_versions.get("/v1/models").json()["models"]
    assert [(model["name"], model["version"]) for model in listed] == [("toy", "1"), ("toy", "2")]
    assert Card.model_validate(listed[1]["card"]) == card("2")
    assert two_versions.get("/v1/models/toy").json()["version"] == "2"
    assert two_versions.get("/v1/models/toy/1").json()["card"]["version"] == "1"


def test_promotion_moves_the_alias_and_back(two_versions: Api) -> None:
    for version in ("1", "2", "1"):
        answer = two_versions.post("/v1/models/toy/promote", json={"version": version})
        assert answer.json()["aliases"] == ["production"]
        assert two_versions.get("/v1/models/toy").json()["version"] == version


@pytest.mark.parametrize("url", ["/v1/models/nosuch", "/v1/models/toy/3"])
def test_a_model_that_is_not_there_is_404(two_versions: Api, url: str) -> None:
    assert is_problem(two_versions.get(url), 404, "model-not-found")


def test_only_versions_that_exist_are_promoted(two_versions: Api) -> None:
    missing = two_versions.post("/v1/models/toy/promote", json={"version": "3"})
    assert is_problem(missing, 404, "model-not-found")
    assert two_versions.get("/v1/models/toy").json()["aliases"] == []
    wrong = two_versions.post("/v1/models/toy/promote", json={"version": "../x"})
    assert is_problem(wrong, 422, "validation-failed")
    outside = two_versions.get("/v1/models/..%2f..%2fetc")
    assert outside.status_code in (404, 422)


def test_a_folder_that_cannot_be_written_is_no_defect(
    two_versions: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object) -> None:
        raise PermissionError("/models/toy/aliases.json")

    monkeypatch.setattr(ModelFolder, "set_alias", fail)
    answer = two_versions.post("/v1/models/toy/promote", json={"version": "1"})
    assert is_problem(answer, 409, "conflict")
    assert "aliases.json" not in answer.text


def test_an_order_for_a_model_that_is_not_there_is_refused_at_the_door(two_versions: Api) -> None:
    answer = two_versions.register(model="nosuch")
    assert is_problem(answer, 404, "model-not-found")
    assert answer.json()["field"] == "/options/model"
    assert two_versions.register(model="toy/1").status_code == 202
