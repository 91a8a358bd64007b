"""A training's child process: what it tells, what it leaves, and every way in which it ends."""

import hashlib
import io
import json
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from service.archives import ArchiveLimits
from service.jobs import runner as runner_module
from service.jobs.job import InputFile, Job, Kind, NewJob, Queue, Request, State
from service.jobs.model import NewModel
from service.jobs.reaper import Reaper
from service.jobs.runner import Runner
from service.stores.memory import MemoryJobStore
from service.stores.memory_files import MemoryBlobStore, MemoryDoorbell, MemoryUploadStore
from service.stores.signing import UrlSigner
from service.worker import trainer_process, training
from service.worker.fetch import UrlRules
from service.worker.training import Training, TrainingLimits
from service.worker.training_data import DataFetcher
from tests.fakes.fake_trainer import SHIPPED, loss_of, next_state

FAKE = (sys.executable, "-m", "tests.fakes.fake_trainer")
LEASE = timedelta(seconds=0.6)  # beats every 0.2 s
PATIENCE_S = 240  # with a machine that is busy with something else
DATA_KEY = "uploads/6f1f0c1e-54a9-4d0c-9d5f-0d4f4f0e7c11/data"


def archive_of(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


class Bench:
    """A job store, objects, and a runner with a training worker's work."""

    def __init__(self, scratch: Path) -> None:
        self.jobs = MemoryJobStore()
        self.blobs = MemoryBlobStore(UrlSigner(b"s", "http://x"))
        self.scratch = scratch
        self.limits = TrainingLimits(hours=1, memory_mib=4096)
        self.production: Path | None = None
        data = archive_of({"images/a.nii.gz": b"a", "labels/a.nii.gz": b"b"})
        self.blobs.put_bytes(DATA_KEY, data)

    def submit(self, epochs: int = 3, orders: str = "", **config: Any) -> Job:
        train = {"epochs": epochs, "steps_per_epoch": 5}
        options = {"config": {"name": "toy", "train": train, "card": {"summary": orders}} | config}
        request = Request(
            kind=Kind.TRAIN, inputs={"archive": InputFile(key=DATA_KEY)}, options=options
        )
        new = NewJob(
            owner="a",
            request=request,
            request_digest="d" * 64,
            queue=Queue.TRAIN,
            deadline_s=3600,  # each start of a process may take long
            publishes=NewModel(name="toy"),
        )
        return self.jobs.add(new)[0]

    def run(self, worker: str = "w1", stopping: threading.Event | None = None) -> State | None:
        claim = self.jobs.claim([Queue.TRAIN], worker, LEASE)
        assert claim is not None
        data = DataFetcher(self.blobs, UrlRules.of("", 16), ArchiveLimits(10, 1 << 20))
        work = Training(self.blobs, data, self.limits, lambda _name: self.production, command=FAKE)
        runner = Runner(
            self.jobs, self.blobs, work, self.scratch, LEASE, 3, stopping or threading.Event()
        )
        return runner.run(claim)

    def result(self, job: Job, name: str) -> bytes:
        manifest = self.jobs.job(job.id).manifest
        assert manifest is not None
        return self.blobs.get_bytes(manifest.files[name].key)

    def losses(self, job: Job) -> list[float]:
        lines = self.result(job, "metrics.jsonl").decode().splitlines()
        return [json.loads(line)["losses"]["total"] for line in lines]

    def lives(self, job: Job) -> int:
        lines = self.result(job, "metrics.jsonl").decode().splitlines()
        return len({json.loads(line)["pid"] for line in lines})


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(runner_module, "FIRST_RETRY_S", 0.05)
    monkeypatch.setattr(training, "SAVE_WITHIN_S", PATIENCE_S)
    monkeypatch.setattr(training, "DELIVER_WITHIN_S", PATIENCE_S)
    monkeypatch.setattr(trainer_process, "KILLED_WITHIN_S", PATIENCE_S)
    return Bench(tmp_path / "scratch")


def unbroken(steps: int) -> list[float]:
    state, losses = "begin", []
    for _ in range(steps):
        state = next_state(state)
        losses.append(loss_of(state))
    return losses


def in_background(bench: Bench, **what: Any) -> tuple[threading.Thread, list[State | None]]:
    ends: list[State | None] = []
    thread = threading.Thread(target=lambda: ends.append(bench.run(**what)))
    thread.start()
    return thread, ends


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


def trainers_of(bench: Bench) -> list[int]:
    """Processes that have this bench's scratch folder on their command line, or as their place."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line, place = (entry / "cmdline").read_bytes(), str((entry / "cwd").readlink())
        except OSError:
            continue
        if str(bench.scratch).encode() in line or place.startswith(str(bench.scratch)):
            found.append(int(entry.name))
    return found


def test_a_training_ends_with_results_a_model_and_its_comparison(bench: Bench) -> None:
    bench.production = SHIPPED
    job = bench.submit(epochs=3)
    assert bench.run() == State.SUCCEEDED, bench.jobs.job(job.id).problem
    done = bench.jobs.job(job.id)
    assert set(done.manifest.files) == {
        "model.onnx",
        "card.json",
        "README.md",
        "metrics.csv",
        "metrics.jsonl",
        "evaluation.html",
        "comparison.json",
    }
    assert bench.losses(job) == unbroken(15)
    (model,) = bench.jobs.models.list()
    assert (model.name, model.version) == ("toy", "1")
    compared = model.comparison
    assert (compared.against, compared.pairs, compared.verdict) == ("discrete/1", 3, "better")
    assert compared.metrics["dice"].model_dump() == {
        "candidate": 0.8,
        "production": 0.7,
        "higher_is_better": True,
        "wins": 2,
        "losses": 1,
        "p_value": 0.5,
    }
    graph = bench.blobs.get_bytes(model.files["model.onnx"].key)
    assert hashlib.sha256(graph).hexdigest() == model.card["sha256"]
    assert bench.jobs.models.aliases()["toy"]["candidate"] == "1"
    assert done.manifest.summary["training"]["steps"] == 15
    assert done.manifest.summary["model"] == {"name": "toy", "version": "1"}


def test_what_a_trainer_leaves_running_holds_nothing_up(bench: Bench) -> None:
    job = bench.submit(epochs=1, orders="family=1")
    assert bench.run() == State.SUCCEEDED, bench.jobs.job(job.id).problem
    wait_until(lambda: trainers_of(bench) == [])


def test_events_tell_epochs_losses_and_the_time_left(bench: Bench) -> None:
    job = bench.submit(epochs=4, orders="await_at=3,13")
    thread, ends = in_background(bench)
    for step in (3, 13):
        wait_until(lambda step=step: detail_of(bench, job).get("step") == step)
        (bench.scratch / f"{step}.go").touch()
    thread.join(PATIENCE_S)
    assert ends == [State.SUCCEEDED]
    told = [e.data for e in bench.jobs.events(job.id) if e.type == "progress"]
    trained = [data for data in told if data["stage"] == "train" and data.get("detail")]
    assert len(trained) >= 2
    for data in trained:
        assert set(data["detail"]["losses"]) == {"total"}, "a figure that is not finite got out"
        assert data["detail"]["steps"] == 20
        assert data["detail"]["seconds_left"] >= 0
    epochs = [data["detail"]["epoch"] for data in trained]
    assert epochs == sorted(epochs)
    fractions = [data["fraction"] for data in trained]
    assert fractions == sorted(fractions)
    assert 0 < fractions[-1] < 1


def detail_of(bench: Bench, job: Job) -> dict[str, Any]:
    return bench.jobs.job(job.id).progress.detail


def test_a_killed_child_goes_on_from_its_checkpoint(bench: Bench) -> None:
    job = bench.submit(epochs=3, orders="die_at=12 step_s=0.05")
    assert bench.run() == State.QUEUED
    assert bench.jobs.events(job.id)[-1].data["reason"] == "training-interrupted"
    wait_until(lambda: _is_due(bench, job))
    assert bench.run("w2") == State.SUCCEEDED
    assert bench.losses(job) == unbroken(15)
    assert bench.lives(job) == 2
    assert len(bench.jobs.models.list()) == 1


def test_a_child_that_is_always_killed_fails_after_three_tries(bench: Bench) -> None:
    job = bench.submit(epochs=1, orders="die_at=3")  # no checkpoint before
    for end in (State.QUEUED, State.QUEUED, State.FAILED):
        wait_until(lambda: _is_due(bench, job))
        assert bench.run() == end
    assert bench.jobs.job(job.id).problem["code"] == "training-interrupted"
    assert bench.jobs.models.list() == []


def _is_due(bench: Bench, job: Job) -> bool:
    return bench.jobs.job(job.id).not_before.timestamp() <= time.time()


def test_cancel_ends_the_whole_group(bench: Bench) -> None:
    job = bench.submit(epochs=1000, orders="step_s=0.05 family=1")
    thread, ends = in_background(bench)
    wait_until(lambda: "losses" in detail_of(bench, job))
    assert len(trainers_of(bench)) >= 3, "guard, trainer and its child"
    bench.jobs.cancel(job.id)
    thread.join(PATIENCE_S)
    assert ends == [State.CANCELLED]
    wait_until(lambda: trainers_of(bench) == [])


def test_a_worker_that_stops_hands_the_job_back_with_a_checkpoint(bench: Bench) -> None:
    job = bench.submit(epochs=4, orders="await_at=8")
    stopping = threading.Event()
    thread, ends = in_background(bench, stopping=stopping)
    wait_until(lambda: detail_of(bench, job).get("step") == 8)
    stopping.set()
    thread.join(PATIENCE_S)
    assert ends == [State.QUEUED]
    assert bench.jobs.job(job.id).attempt == 0, "it was not the job's fault"
    wait_until(lambda: trainers_of(bench) == [])
    steps = [json.loads(bench.blobs.get_bytes(key))["step"] for key in summaries(bench, job)]
    assert max(steps) % 5 != 0, "the checkpoint of the end of an epoch, not of the stop"
    assert bench.run("w2") == State.SUCCEEDED
    assert bench.losses(job) == unbroken(20)
    assert bench.lives(job) == 2


def summaries(bench: Bench, job: Job) -> list[str]:
    return [key for key in bench.blobs.list(f"checkpoints/{job.id}/") if key.endswith(".json")]


def test_two_checkpoints_are_kept_and_none_after_the_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # After each epoch it waits until its checkpoint was delivered, or no two would be there.
    job = bench.submit(epochs=4, orders="await_at=6,11,16")
    counts = []
    put = bench.blobs.put_bytes

    def counting(key: str, data: bytes) -> None:
        put(key, data)
        if key in summaries(bench, job):
            counts.append(len(summaries(bench, job)))
            (bench.scratch / f"{5 * len(counts) + 1}.go").touch()

    monkeypatch.setattr(bench.blobs, "put_bytes", counting)
    assert bench.run() == State.SUCCEEDED
    assert counts == [1, 2, 3, 3]  # the third is dropped when the newest is whole
    reaper = Reaper(
        bench.jobs,
        MemoryUploadStore(),
        bench.blobs,
        MemoryDoorbell(),
        timedelta(seconds=1),
        3,
        timedelta(days=1),
    )
    assert len(bench.blobs.list(f"checkpoints/{job.id}/")) > 0
    reaper.remove_orphans()
    assert bench.blobs.list(f"checkpoints/{job.id}/") == []
    assert bench.jobs.models.list()[0].files["model.onnx"].key in bench.blobs.list("models/")


def test_too_much_memory_ends_the_training(bench: Bench) -> None:
    bench.limits = TrainingLimits(hours=1, memory_mib=150)
    job = bench.submit(orders="hog_mib=250")
    assert bench.run() == State.FAILED
    assert bench.jobs.job(job.id).problem["code"] == "training-memory"
    wait_until(lambda: trainers_of(bench) == [])


def test_too_much_time_ends_the_training(bench: Bench) -> None:
    bench.limits = TrainingLimits(hours=1 / 3600, memory_mib=4096)
    job = bench.submit(epochs=1000)
    assert bench.run() == State.FAILED
    assert bench.jobs.job(job.id).problem["code"] == "training-time"


def test_what_the_trainer_says_is_wrong_reaches_the_caller(bench: Bench) -> None:
    job = bench.submit(orders="error=training-data-invalid")
    assert bench.run() == State.FAILED
    problem = bench.jobs.job(job.id).problem
    assert (problem["code"], problem["status"]) == ("training-data-invalid", 422)
    assert problem["errors"] == [{"field": "/data", "detail": "3 images have no labels."}]


@pytest.mark.parametrize("orders", ["error=no-such-code", "mute=1"])
def test_an_end_that_nobody_explains_is_a_failure(bench: Bench, orders: str) -> None:
    job = bench.submit(orders=orders)
    assert bench.run() == State.FAILED
    assert bench.jobs.job(job.id).problem["code"] == "training-failed"


def test_a_full_disk_is_tried_again_later(bench: Bench) -> None:
    job = bench.submit(orders="full_disk=1")
    assert bench.run() == State.QUEUED
    assert bench.jobs.events(job.id)[-1].data["reason"] == "storage-full"


def test_a_model_of_another_name_is_not_published(bench: Bench) -> None:
    job = bench.submit(name="other")
    assert bench.run() == State.FAILED
    assert bench.jobs.job(job.id).problem["code"] == "training-failed"
    assert bench.jobs.models.list() == []


def test_a_damaged_checkpoint_is_passed_over(bench: Bench) -> None:
    job = bench.submit(epochs=3, orders="die_at=14 step_s=0.05")
    assert bench.run() == State.QUEUED
    newest = max(summaries(bench, job))
    parts = json.loads(bench.blobs.get_bytes(newest))["parts"]
    (key,) = [part["key"] for path, part in parts.items() if "step-" in path]
    bench.blobs.delete([key])
    bench.blobs.put_bytes(key, b'[10, "damaged')
    wait_until(lambda: _is_due(bench, job))
    assert bench.run() == State.SUCCEEDED
    assert bench.losses(job) == unbroken(15)


def test_an_archive_that_lies_fails_the_job_before_the_trainer_starts(bench: Bench) -> None:
    bench.blobs.delete([DATA_KEY])
    bench.blobs.put_bytes(DATA_KEY, archive_of({"../evil": b"x"}))
    job = bench.submit()
    assert bench.run() == State.FAILED
    assert bench.jobs.job(job.id).problem["code"] == "archive-path"
    assert list(bench.scratch.rglob("evil")) == []
