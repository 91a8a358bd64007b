"""How jobs come in, and how what is lost or old goes away."""

from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from service.errors import (
    IdempotencyKeyReusedError,
    QueueFullError,
    QuotaExceededError,
    StoreUnavailableError,
)
from service.jobs.digest import request_digest
from service.jobs.intake import Intake
from service.jobs.job import Claim, InputFile, Kind, Manifest, Queue, Request, State
from service.jobs.model import ModelFile, NewModel, PublishedModel
from service.jobs.reaper import Reaper
from service.stores.memory import MemoryJobStore
from service.stores.memory_files import MemoryBlobStore, MemoryDoorbell, MemoryUploadStore
from service.stores.signing import UrlSigner

LEASE = timedelta(seconds=30)


class Bench:
    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0
        self.jobs = MemoryJobStore(lambda: self.now_s, self.has_upload)
        self.uploads = MemoryUploadStore(lambda: self.now_s, self.jobs.is_read)
        self.blobs = MemoryBlobStore(UrlSigner(b"s", "http://x"))
        self.bell = MemoryDoorbell()
        self.intake = Intake(
            self.jobs, self.bell, max_queued_jobs=5, max_jobs_per_key=3, deadline_s=10**7
        )
        self.reaper = Reaper(
            self.jobs,
            self.uploads,
            self.blobs,
            self.bell,
            timedelta(seconds=5),
            3,
            timedelta(hours=1),
        )

    def has_upload(self, upload_id: UUID) -> bool:
        return self.uploads.exists(upload_id)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def request(fixed: str = "uploads/a/data", sha256: str | None = None) -> Request:
    inputs = {"fixed": InputFile(key=fixed, sha256=sha256)}
    return Request(kind=Kind.REGISTER, inputs=inputs, options={"seed": 1, "model": "discrete"})


def test_a_new_job_is_rung_for_and_a_replay_is_not(bench: Bench) -> None:
    job, replayed = bench.intake.submit(request(), "alice", idempotency_key="k", queue=Queue.BATCH)
    assert (replayed, bench.bell.rings) == (False, [(job.id, Queue.BATCH)])
    again, replayed = bench.intake.submit(request(), "alice", idempotency_key="k")
    assert (again.id, replayed, len(bench.bell.rings)) == (job.id, True, 1)
    with pytest.raises(IdempotencyKeyReusedError):
        bench.intake.submit(request("uploads/b/data"), "alice", idempotency_key="k")


def test_the_same_bytes_uploaded_again_are_the_same_request() -> None:
    first, second = request("uploads/a/data", "f" * 64), request("uploads/b/data", "f" * 64)
    assert request_digest(first) == request_digest(second)
    assert request_digest(first) != request_digest(request("uploads/a/data", "e" * 64))
    turned = first.model_copy(update={"options": {"model": "discrete", "seed": 1}})
    assert request_digest(first) == request_digest(turned)
    other = first.model_copy(update={"options": {"model": "discrete", "seed": 2}})
    assert request_digest(first) != request_digest(other)


def test_one_key_cannot_take_the_whole_queue_but_may_repeat_itself(bench: Bench) -> None:
    for number in range(3):
        bench.intake.submit(request(), "alice", idempotency_key=str(number))
    with pytest.raises(QuotaExceededError) as caught:
        bench.intake.submit(request(), "alice")
    assert caught.value.retry_after_s
    assert bench.intake.submit(request(), "alice", idempotency_key="1")[1]
    bench.intake.submit(request(), "bob")
    bench.intake.submit(request(), "carol")
    with pytest.raises(QueueFullError):
        bench.intake.submit(request(), "dave")
    bench.jobs.cancel(bench.jobs.page("alice").jobs[0].id)
    bench.intake.submit(request(), "alice")


def test_the_reaper_rings_for_jobs_that_nobody_heard_of(bench: Bench) -> None:
    job, _ = bench.intake.submit(request(), "alice")
    bench.bell.rings.clear()
    bench.reaper.reap()
    assert bench.bell.rings == []
    bench.now_s += 5
    bench.reaper.reap()
    assert bench.bell.rings == [(job.id, Queue.INTERACTIVE)]


def finish(bench: Bench) -> object:
    claim = bench.jobs.claim([Queue.INTERACTIVE], "w", LEASE)
    key = f"jobs/{claim.job.id}/{claim.fence}/"
    bench.blobs.put_bytes(key + "ddf.nii.gz", b"1")
    bench.blobs.put_bytes(key + "manifest.json", b"2")
    bench.jobs.succeed(claim, Manifest(files={}))
    return claim.job.id


def test_old_jobs_go_with_their_objects(bench: Bench) -> None:
    old, _ = bench.intake.submit(request(), "alice")
    finish(bench)
    bench.now_s += 3000
    young, _ = bench.intake.submit(request(), "alice")
    finish(bench)
    bench.now_s += 601
    bench.reaper.sweep()
    assert [job.id for job in bench.jobs.page(None).jobs] == [young.id]
    assert {key.split("/")[1] for key in bench.blobs.list("jobs/")} == {str(young.id)}
    assert old.id != young.id


def test_unused_uploads_and_objects_of_lost_attempts_go(bench: Bench) -> None:
    upload = bench.uploads.open("alice", 3, timedelta(hours=1))
    used = bench.uploads.open("alice", 3, timedelta(hours=1))
    for key in (upload.key, used.key, f"uploads/{uuid4()}/data", f"jobs/{uuid4()}/1/x"):
        bench.blobs.put_bytes(key, b"abc")
    job, _ = bench.intake.submit(request(used.key), "alice")
    bench.jobs.claim([Queue.INTERACTIVE], "w", LEASE)
    bench.blobs.put_bytes(f"jobs/{job.id}/1/warped.nii.gz", b"half")
    bench.reaper.remove_orphans()
    running = [f"jobs/{job.id}/1/warped.nii.gz"]
    assert bench.blobs.list("") == sorted([*running, upload.key, used.key])
    bench.now_s += 31
    bench.reaper.reap()
    bench.now_s += 3600
    bench.reaper.sweep()
    assert bench.blobs.list("") == [used.key]
    assert bench.jobs.job(job.id).state == State.QUEUED


def test_a_published_model_outlives_its_job_and_a_lost_attempt_does_not(bench: Bench) -> None:
    def train(fence: int) -> Claim:
        claim = bench.jobs.claim([Queue.TRAIN], "w", LEASE)
        assert claim is not None
        assert claim.fence == fence
        bench.blobs.put_bytes(f"models/toy/1/{claim.job.id}.{fence}/model.onnx", b"graph")
        bench.reaper.remove_orphans()
        return claim

    wish = NewModel(name="toy")
    job, _ = bench.intake.submit(request(), "alice", queue=Queue.TRAIN, publishes=wish)
    train(1)
    bench.now_s += 31
    bench.reaper.reap()
    bench.now_s += 60
    claim = train(2)
    kept = f"models/toy/1/{job.id}.2/model.onnx"
    assert bench.blobs.list("models/") == [kept]
    graph = ModelFile(key=kept, bytes=5, sha256="0" * 64)
    made = PublishedModel(name="toy", version="1", files={"model.onnx": graph}, card={})
    assert bench.jobs.succeed(claim, Manifest(files={}, model=made))
    bench.now_s += 3601
    bench.reaper.sweep()
    assert bench.jobs.page(None).jobs == []
    assert bench.blobs.list("models/") == [kept]
    assert bench.jobs.models.model("toy", "1").files == made.files


def test_the_reaper_takes_turns_and_waits_out_an_outage(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = []
    monkeypatch.setattr(bench.jobs, "reap", lambda most: calls.append(most) or [])
    bench.reaper.tick()
    bench.reaper.tick()
    assert calls == [3]

    def out(_chore: str, _every: timedelta) -> bool:
        raise StoreUnavailableError

    monkeypatch.setattr(bench.jobs, "take_turn", out)
    bench.reaper._next = 0.0
    bench.reaper.tick()
    assert calls == [3]
