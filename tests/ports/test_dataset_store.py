"""What every store of data sets promises, and how long objects of trainings live."""

from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from service.errors import ConflictError, DatasetNotFoundError, UploadNotFoundError
from service.jobs.datasets import ARCHIVE, Dataset, NewDataset
from service.jobs.job import InputFile, Kind, Progress, Queue, Request, State
from tests.ports.conftest import Bench, new_job

DAY, LEASE = timedelta(days=1), timedelta(seconds=30)


def add(bench: Bench, name: str = "hippo", owner: str = "alice", key: str = "uploads/x/data"):
    new = NewDataset(
        owner=owner,
        name=name,
        inputs={ARCHIVE: InputFile(key=key, sha256="a" * 64, bytes=5)},
        sha256="a" * 64,
        bytes=5,
        files=2,
    )
    return bench.datasets.add(new)


def adopted(bench: Bench) -> tuple[Dataset, str]:
    """A data set that was an upload, and the folder of its object."""
    upload = bench.uploads.open("alice", 5, DAY)
    new = NewDataset(owner="alice", name="up", inputs={ARCHIVE: InputFile(key=upload.key)})
    made = bench.datasets.add(new, upload.id)
    with pytest.raises(UploadNotFoundError):
        bench.uploads.upload(upload.id, "alice")
    return made, f"uploads/{upload.id}/"


def training(inputs: dict[str, InputFile]) -> dict[str, object]:
    request = Request(kind=Kind.TRAIN, inputs=inputs)
    return {"request": request, "queue": Queue.TRAIN}


def test_what_was_added_comes_back(bench: Bench) -> None:
    made = add(bench)
    assert bench.datasets.dataset(made.id, "alice") == made
    assert (made.name, made.files, made.bytes, made.key) == ("hippo", 2, 5, "uploads/x/data")
    remote = NewDataset(owner="alice", name="far", inputs={"data/a": InputFile(url="https://x/a")})
    assert bench.datasets.add(remote).key is None


def test_a_name_is_an_owners_own(bench: Bench) -> None:
    add(bench)
    with pytest.raises(ConflictError) as caught:
        add(bench)
    assert caught.value.field == "/name"
    add(bench, owner="bob")


def test_others_see_nothing(bench: Bench) -> None:
    made = add(bench)
    for look in (bench.datasets.dataset, bench.datasets.delete):
        with pytest.raises(DatasetNotFoundError):
            look(made.id, "bob")
        with pytest.raises(DatasetNotFoundError):
            look(uuid4(), "alice")
    assert bench.datasets.page("bob").datasets == []


def test_pages_follow_each_other_newest_first(bench: Bench) -> None:
    made = [add(bench, f"d{n}", key=f"uploads/{n}/data").id for n in range(5)]
    seen: list[UUID] = []
    cursor = None
    while True:
        page = bench.datasets.page("alice", limit=2, cursor=cursor)
        seen += [found.id for found in page.datasets]
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == made[::-1]


def test_an_upload_that_became_a_data_set_does_not_expire(bench: Bench) -> None:
    made, folder = adopted(bench)
    bench.clock.forward(10 * 86_400)
    assert bench.uploads.expired() == []
    assert bench.jobs.live_keys([folder]) == {folder}
    job, _ = bench.jobs.add(new_job(**training(made.inputs)))
    bench.datasets.delete(made.id, "alice")
    assert bench.jobs.live_keys([folder]) == {folder}, "a queued training reads it"
    bench.jobs.cancel(job.id)
    assert bench.jobs.live_keys([folder]) == set()


def test_checkpoints_live_while_their_training_may_go_on_or_has_failed(bench: Bench) -> None:
    job, _ = bench.jobs.add(new_job(**training({})))
    folder = f"checkpoints/{job.id}/"

    def is_live() -> bool:
        return bench.jobs.live_keys([folder]) == {folder}

    assert is_live()
    claim = bench.jobs.claim([Queue.TRAIN], "w", LEASE)
    assert claim is not None
    assert is_live()
    bench.jobs.retry(claim, timedelta(0), "lease-lost")
    claim = bench.jobs.claim([Queue.TRAIN], "w", LEASE)
    assert claim is not None
    bench.jobs.end(claim, State.FAILED, {"code": "training-diverged"})
    assert is_live()
    bench.jobs.delete(job.id)
    assert not is_live()
    other, _ = bench.jobs.add(new_job(**training({})))
    bench.jobs.cancel(other.id)
    assert bench.jobs.live_keys([f"checkpoints/{other.id}/"]) == set()


def test_figures_come_with_the_progress_and_each_epoch_is_an_event(bench: Bench) -> None:
    job, _ = bench.jobs.add(new_job(**training({})))
    claim = bench.jobs.claim([Queue.TRAIN], "w", LEASE)
    assert claim is not None
    for epoch, loss in ((1, 0.5), (1, 0.4), (2, 0.3)):
        detail = {"epoch": epoch, "losses": {"total": loss}}
        bench.jobs.beat(claim, Progress(stage="train", fraction=0.1, detail=detail), LEASE)
        assert bench.jobs.job(job.id).progress.detail == detail
    bench.jobs.beat(claim, Progress(stage="export", fraction=0.9), LEASE)
    told = [e.data for e in bench.jobs.events(job.id) if e.type == "progress"]
    assert [data.get("detail", {}).get("epoch") for data in told] == [1, 2, None]
    assert told[0]["detail"]["losses"] == {"total": 0.5}
    bench.jobs.retry(claim, timedelta(0), "worker-stopped")
    assert bench.jobs.job(job.id).progress == Progress()


def test_a_detail_is_small() -> None:
    with pytest.raises(ValueError, match="2048"):
        Progress(stage="train", detail={"note": "x" * 3000})
