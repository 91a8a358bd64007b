"""`/models`: cards are shown, aliases are moved, and an order for what is not there is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

from service.jobs.model import Comparison, NewModel, Verdict
from service.registration.card import (
    Card,
    InputTensor,
    Intensity,
    ModelGrid,
    OutputTensor,
    Training,
)
from tests.made_models import FakeTraining, compared, publish
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


def test_an_order_for_a_model_that_is_not_there_is_refused_at_the_door(two_versions: Api) -> None:
    answer = two_versions.register(model="nosuch")
    assert is_problem(answer, 404, "model-not-found")
    assert answer.json()["field"] == "/options/model"
    assert two_versions.register(model="toy/1").status_code == 202


def train(api: Api, tmp_path: Path, comparison: Comparison | None = None, above: int = 0) -> str:
    """A training of `toy` that has ended well; gives the version."""
    work = FakeTraining(comparison=comparison)
    return publish(api.stores, tmp_path, NewModel(name="toy", above=above), work).version


def promote(api: Api, version: str, **order: object) -> object:
    return api.post("/v1/models/toy/promote", json={"version": version, **order})


def test_a_trained_model_is_listed_beside_the_shipped_ones(
    two_versions: Api, tmp_path: Path
) -> None:
    assert train(two_versions, tmp_path, compared("toy/2"), above=2) == "3"
    listed = two_versions.get("/v1/models").json()["models"]
    assert [(model["version"], model["source"]) for model in listed] == [
        ("1", "shipped"),
        ("2", "shipped"),
        ("3", "registered"),
    ]
    shown = two_versions.get("/v1/models/toy/3").json()
    assert shown == listed[2]
    assert shown["aliases"] == ["candidate"]
    assert shown["comparison"]["metrics"]["dice"]["wins"] == 4
    assert two_versions.get(f"/v1/jobs/{shown['job_id']}").status_code in (200, 404)
    assert two_versions.get("/v1/models/toy").json()["version"] == "2"
    assert two_versions.register(model="toy/3").status_code == 202
    assert two_versions.register(model="toy@candidate").status_code == 202


def test_a_better_candidate_goes_into_production_and_back(
    two_versions: Api, tmp_path: Path
) -> None:
    train(two_versions, tmp_path, compared("toy/2"), above=2)
    promoted = promote(two_versions, "3").json()
    assert promoted["aliases"] == ["candidate", "production"]
    assert promoted["comparison"]["verdict"] == "better"
    assert two_versions.get("/v1/models/toy").json()["version"] == "3"
    restored = two_versions.post("/v1/models/toy/rollback")
    assert restored.status_code == 200, restored.text
    assert (restored.json()["version"], restored.json()["aliases"]) == ("2", [])
    assert two_versions.get("/v1/models/toy").json()["version"] == "2"
    again = two_versions.post("/v1/models/toy/rollback", json={"alias": "production"})
    assert is_problem(again, 409, "nothing-to-roll-back")


@pytest.mark.parametrize(
    ("comparison", "code"),
    [
        (None, "not-compared"),
        (compared("toy/1"), "comparison-outdated"),
        (compared(None), "comparison-outdated"),
        (compared("toy/2", Verdict.WORSE), "model-worse"),
    ],
)
def test_what_was_not_shown_to_be_as_good_is_promoted_only_by_force(
    two_versions: Api, tmp_path: Path, comparison: Comparison | None, code: str
) -> None:
    train(two_versions, tmp_path, comparison, above=2)
    refused = promote(two_versions, "3")
    assert is_problem(refused, 409, code)
    assert refused.json()["field"] == "/version"
    assert "force" in refused.json()["detail"]
    assert two_versions.get("/v1/models/toy").json()["version"] == "2"
    assert promote(two_versions, "3", alias="staging").status_code == 200
    assert promote(two_versions, "3", force=True).json()["version"] == "3"
    assert two_versions.get("/v1/models/toy").json()["version"] == "3"
    assert promote(two_versions, "3").status_code == 200  # it is there already
    assert promote(two_versions, "1").status_code == 200  # a shipped one


@pytest.mark.parametrize("verdict", [Verdict.BETTER, Verdict.EQUAL])
def test_a_candidate_that_is_no_worse_may_go(
    two_versions: Api, tmp_path: Path, verdict: Verdict
) -> None:
    train(two_versions, tmp_path, compared("toy/2", verdict), above=2)
    assert promote(two_versions, "3").status_code == 200


def test_a_comparison_counts_only_while_its_rival_is_in_production(
    two_versions: Api, tmp_path: Path
) -> None:
    train(two_versions, tmp_path, compared("toy/2"), above=2)
    train(two_versions, tmp_path, compared("toy/2"))
    assert promote(two_versions, "3").status_code == 200
    assert is_problem(promote(two_versions, "4"), 409, "comparison-outdated")


def test_the_first_model_of_a_name_needs_no_rival(api: Api, tmp_path: Path) -> None:
    assert is_problem(api.get("/v1/models/toy"), 404, "model-not-found")
    train(api, tmp_path)
    assert api.get("/v1/models/toy").json()["version"] == "1"
    assert promote(api, "1").json()["aliases"] == ["candidate", "production"]


def test_going_back_names_what_is_there(two_versions: Api) -> None:
    unknown = two_versions.post("/v1/models/nosuch/rollback")
    assert is_problem(unknown, 404, "model-not-found")
    never = two_versions.post("/v1/models/toy/rollback")
    assert is_problem(never, 409, "nothing-to-roll-back")
    wrong = two_versions.post("/v1/models/toy/rollback", json={"alias": "../x"})
    assert is_problem(wrong, 422, "validation-failed")
    for version in ("1", "2"):
        promote(two_versions, version)
    order = {"version": "2"}  # sent twice, for its answer was lost
    for _ in range(2):
        answer = two_versions.post("/v1/models/toy/rollback", json=order)
        assert answer.json()["version"] == "1"


def test_a_broken_card_in_the_registry_is_left_out_of_the_list(
    two_versions: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(two_versions, tmp_path, above=2)
    made = two_versions.stores.models.list()
    broken = made[0].model_copy(update={"card": {"name": "toy"}})
    monkeypatch.setattr(type(two_versions.stores.models), "list", lambda _self: [broken])
    listed = two_versions.get("/v1/models").json()["models"]
    assert [model["version"] for model in listed] == ["1", "2"]
    monkeypatch.setattr(type(two_versions.stores.models), "model", lambda *_args: broken)
    assert is_problem(two_versions.get("/v1/models/toy/3"), 500, "model-invalid")


def files_of(api: Api, version: str) -> list[str]:
    return api.stores.blobs.list(f"models/toy/{version}/")


def test_a_version_is_deleted_with_its_files(two_versions: Api, tmp_path: Path) -> None:
    assert [train(two_versions, tmp_path, above=2) for _ in range(3)] == ["3", "4", "5"]
    assert files_of(two_versions, "3")
    gone = two_versions.call("DELETE", "/v1/models/toy/3")
    assert (gone.status_code, gone.content) == (204, b"")
    assert files_of(two_versions, "3") == []
    assert files_of(two_versions, "4")
    for method in ("DELETE", "GET"):
        assert is_problem(two_versions.call(method, "/v1/models/toy/3"), 404, "model-not-found")
    assert is_problem(two_versions.call("DELETE", "/v1/models/other/1"), 404, "model-not-found")
    assert [model["version"] for model in two_versions.get("/v1/models").json()["models"]] == [
        "1",
        "2",
        "4",
        "5",
    ]


def test_what_an_alias_or_a_job_needs_is_not_deleted(two_versions: Api, tmp_path: Path) -> None:
    for _ in range(2):
        train(two_versions, tmp_path, above=2)
    assert is_problem(two_versions.call("DELETE", "/v1/models/toy/1"), 409, "conflict")  # shipped
    pointed = two_versions.call("DELETE", "/v1/models/toy/4")
    assert is_problem(pointed, 409, "model-in-use")
    assert "candidate" in pointed.json()["detail"]
    ordered = two_versions.register(model="toy/3").json()["id"]
    used = two_versions.call("DELETE", "/v1/models/toy/3")
    assert is_problem(used, 409, "model-in-use")
    assert "job" in used.json()["detail"]
    two_versions.call("DELETE", f"/v1/jobs/{ordered}")
    assert two_versions.call("DELETE", "/v1/models/toy/3").status_code == 204
    assert files_of(two_versions, "4")


def test_a_bare_name_uses_the_version_that_it_stands_for(
    make_api: Callable[..., Api], tmp_path: Path
) -> None:
    api = make_api(models_dir=tmp_path / "none")
    for _ in range(3):
        train(api, tmp_path)
    api.post("/v1/models/toy/promote", json={"version": "1", "alias": "candidate"})
    assert api.register(model="toy").status_code == 202  # the newest, 3
    assert is_problem(api.call("DELETE", "/v1/models/toy/3"), 409, "model-in-use")
    assert api.call("DELETE", "/v1/models/toy/2").status_code == 204
