"""Trainings and data sets, by both clients, against the real gateway."""

import zipfile
from pathlib import Path
from typing import Any

import pytest

from service import errors
from service.client.packing import pack
from tests.unit.client.conftest import World

CONFIG: dict[str, Any] = {
    "name": "toy",
    "data": {"pairing": "unpaired"},
    "network": {"kind": "voxelmorph"},
    "losses": {"image": [{"kind": "lncc"}]},
}
FILES = {"images/a.nii.gz": b"a" * 5000, "images/b.nii.gz": b"b", "list.csv": b"x,y\n" * 900}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in (FILES | {".hidden/x": b"x", "images/.DS_Store": b"x"}).items():
        path = tmp_path / "my data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "my data"


def test_a_folder_is_packed_the_same_way_each_time(folder: Path, tmp_path: Path) -> None:
    told: list[float] = []
    first = pack(folder, tmp_path / "1.zip", told.append).read_bytes()
    assert pack(folder, tmp_path / "2.zip").read_bytes() == first
    with zipfile.ZipFile(tmp_path / "1.zip") as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == FILES
    assert told == sorted(told)
    assert told[-1] == 1


def test_a_folder_is_sent_and_trained_on(world: World, folder: Path) -> None:
    job = world.client.train(CONFIG, data=folder, priority=1)
    assert (job.kind, job.queue, job.priority) == ("train", "train", 1)
    assert job.options == {"config": CONFIG}
    assert not any(folder.parent.glob("*.zip"))


def test_an_archive_is_sent_as_it_is(world: World, folder: Path, tmp_path: Path) -> None:
    archive = pack(folder, tmp_path / "own.zip")
    made = world.client.register_dataset("own", data=archive)
    assert (made.bytes, made.files) == (archive.stat().st_size, 3)
    job = world.client.train(CONFIG, dataset_id=made.id)
    assert job.state == "queued"


def test_an_order_whose_answer_was_lost_is_carried_out_once(world: World, folder: Path) -> None:
    world.wire.lost = {4}  # limits, announcement, bytes, then the order
    job = world.client.train(CONFIG, data=folder)
    assert [other.id for other in world.client.jobs().jobs] == [job.id]


def test_a_data_set_whose_answer_was_lost_is_found_again(world: World, folder: Path) -> None:
    world.wire.lost = {4}
    made = world.client.register_dataset("one", data=folder)
    assert [other.id for other in world.client.datasets().datasets] == [made.id]
    assert world.client.register_dataset("one", data=folder) == made
    (folder / "more").write_text("x")
    with pytest.raises(errors.ConflictError):
        world.client.register_dataset("one", data=folder)


def test_data_sets_are_listed_page_by_page_and_deleted(world: World, folder: Path) -> None:
    made = [world.client.register_dataset(name, data=folder) for name in ("a", "b", "c")]
    page = world.client.datasets(limit=2)
    rest = world.client.datasets(cursor=page.cursor)
    assert [each.id for each in (*page.datasets, *rest.datasets)] == [m.id for m in made[::-1]]
    assert rest.cursor is None
    world.client.delete_dataset(made[0].id)
    with pytest.raises(errors.DatasetNotFoundError):
        world.client.dataset(made[0].id)


def test_a_wrong_configuration_comes_back_with_every_pointer(world: World, folder: Path) -> None:
    wrong = CONFIG | {"losses": {"image": [{"kind": "nonsense"}]}, "seed": -1}
    with pytest.raises(errors.ValidationError) as caught:
        world.client.train(wrong, data=folder)
    fields = {fault["field"] for fault in caught.value.errors}
    assert fields == {"/config/losses/image/0/kind", "/config/seed"}


@pytest.mark.parametrize("name", ["nothing", "my data/list.csv"])
def test_data_that_are_not_there_are_told_before_anything_is_sent(
    world: World, folder: Path, name: str
) -> None:
    with pytest.raises(errors.InvalidRequestError):
        world.client.train(CONFIG, data=folder.parent / name)
    assert not [request for request in world.wire.seen if request.method == "POST"]


def test_what_is_too_large_is_told_before_it_is_sent(make_world: Any, folder: Path) -> None:
    world = make_world(max_upload_mib=1)
    (folder / "large.gz").write_bytes(b"x" * (2 << 20))
    with pytest.raises(errors.InvalidRequestError, match="MiB"):
        world.client.train(CONFIG, data=folder)
