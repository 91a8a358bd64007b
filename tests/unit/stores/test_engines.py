"""Models of the registry on a worker: fetched once, checked, looked up anew for each job."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.errors import ModelInvalidError, ModelNotFoundError, NothingToRollBackError
from service.jobs.model import ModelId, NewModel
from service.registration.models_folder import ModelFolder
from service.settings import Settings
from service.stores import promotion
from service.stores.build import Stores, open_stores
from service.stores.engines import LibraryEngines
from service.stores.library import ModelLibrary
from service.worker.registration import models_of
from tests.made_models import FakeTraining, card_for, publish, shift_graph

TOY = NewModel(name="toy")


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    opened = open_stores(Settings(data_dir=tmp_path / "data"))
    yield opened
    opened.close()


def models_on(stores: Stores, host: Path, most: int = 4) -> LibraryEngines:
    """The models of a worker whose own folders lie under `host`."""
    library = ModelLibrary(ModelFolder(host / "shipped"), stores.models)
    return LibraryEngines(
        library, stores.blobs, host / "cache", provider="cpu", threads=1, most=most
    )


def ship(host: Path, version: str, name: str = "toy") -> None:
    """Put a model into the shipped folder of a host."""
    graph = shift_graph((0.0, 0.0, 0.0))
    folder = host / "shipped" / name / version
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(graph)
    card = card_for(ModelId(name=name, version=version), graph)
    (folder / "card.json").write_text(card.model_dump_json())


def test_a_published_model_is_there_at_once_on_every_host(stores: Stores, tmp_path: Path) -> None:
    hosts = [models_on(stores, tmp_path / name) for name in ("a", "b")]
    with pytest.raises(ModelNotFoundError):
        hosts[0].load("toy")
    publish(stores, tmp_path, TOY)
    for models in hosts:
        for ref in ("toy", "toy/1", "toy@candidate"):
            assert models.load(ref).card.version == "1"
        assert models.load("toy") is models.load("toy/1")
        assert sorted(path.name for path in models.folder("toy").iterdir()) == [
            "card.json",
            "model.onnx",
        ]


@pytest.mark.parametrize("asked", [False, True])
def test_engines_are_told_of_cuda_graphs(stores: Stores, tmp_path: Path, asked: bool) -> None:
    ship(tmp_path, "1")
    settings = Settings(
        models_dir=tmp_path / "shipped", data_dir=tmp_path, provider="cpu", cuda_graphs=asked
    )
    assert models_of(settings, stores).load("toy").cuda_graphs is asked


def test_a_bare_name_follows_production_from_the_next_job_on(
    stores: Stores, tmp_path: Path
) -> None:
    models = models_on(stores, tmp_path)
    publish(stores, tmp_path, TOY)
    promotion.promote(models.library, "toy", "1")
    publish(stores, tmp_path, TOY)
    assert models.load("toy").card.version == "1"
    assert models.load("toy@candidate").card.version == "2"
    promotion.promote(models.library, "toy", "2", force=True)
    assert models.load("toy").card.version == "2"
    assert promotion.roll_back(models.library, "toy").version == "1"
    assert models.load("toy").card.version == "1"


def test_a_training_does_not_take_the_place_of_a_shipped_model(
    stores: Stores, tmp_path: Path
) -> None:
    ship(tmp_path, "1")
    ship(tmp_path, "2.1")
    models = models_on(stores, tmp_path)
    assert models.library.last_shipped_number("toy") == 2
    made = publish(stores, tmp_path, NewModel(name="toy", above=2))
    assert made.version == "3"
    assert models.load("toy").card.version == "2.1"
    assert models.library.in_production("toy") == "2.1"
    assert models.load("toy/3").card.version == "3"
    assert [(model.version, model.registered is None) for model in models.library.list()] == [
        ("1", True),
        ("2.1", True),
        ("3", False),
    ]
    promotion.promote(models.library, "toy", "3", force=True)
    assert models.load("toy").card.version == "3"
    assert promotion.roll_back(models.library, "toy").version == "2.1"
    with pytest.raises(NothingToRollBackError):
        promotion.roll_back(models.library, "toy")


def test_aliases_of_the_folder_count_until_the_registry_moves_them(
    stores: Stores, tmp_path: Path
) -> None:
    ship(tmp_path, "1")
    ship(tmp_path, "2")
    models = models_on(stores, tmp_path)
    models.library.folder.set_alias("toy", "1")
    assert models.library.find("toy").aliases == ("production",)
    assert models.load("toy").card.version == "1"
    promotion.promote(models.library, "toy", "2")
    assert models.load("toy").card.version == "2"
    assert [model.aliases for model in models.library.list()] == [(), ("production",)]
    assert promotion.roll_back(models.library, "toy").version == "1"


def test_only_the_engines_used_last_are_kept(stores: Stores, tmp_path: Path) -> None:
    models = models_on(stores, tmp_path, most=2)
    for _ in range(3):
        publish(stores, tmp_path, TOY)
    first = models.load("toy/1")
    models.load("toy/2")
    assert models.load("toy/1") is first
    models.load("toy/3")
    assert models.load("toy/1") is first
    assert len(models._engines) == 2


def test_the_cache_is_bounded_and_refilled(stores: Stores, tmp_path: Path) -> None:
    models = models_on(stores, tmp_path, most=1)
    for number in range(6):
        publish(stores, tmp_path, TOY, FakeTraining((float(number), 0.0, 0.0)))
        models.load(f"toy/{number + 1}")
    assert len(list((tmp_path / "cache").iterdir())) == 4
    assert models.load("toy/1").card.version == "1"


def test_a_damaged_copy_is_fetched_again(stores: Stores, tmp_path: Path) -> None:
    publish(stores, tmp_path, TOY)
    copy = models_on(stores, tmp_path).folder("toy") / "model.onnx"
    copy.write_bytes(b"half")
    assert models_on(stores, tmp_path).load("toy").card.version == "1"
    shutil.rmtree(tmp_path / "cache")
    assert models_on(stores, tmp_path).load("toy").card.version == "1"


def test_other_bytes_than_were_published_are_refused(stores: Stores, tmp_path: Path) -> None:
    publish(stores, tmp_path, TOY)
    key = stores.models.model("toy", "1").files["model.onnx"].key
    stores.blobs.delete([key])
    with pytest.raises(ModelInvalidError, match="not stored any more"):
        models_on(stores, tmp_path).load("toy")
    stores.blobs.put_bytes(key, shift_graph((9.0, 9.0, 9.0)))
    with pytest.raises(ModelInvalidError, match="sha256 differs"):
        models_on(stores, tmp_path).load("toy")
    assert list((tmp_path / "cache").iterdir()) == []
