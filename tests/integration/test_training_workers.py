"""Trainer workers that die: another one goes on, and one model comes of it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import psutil
import pytest

from service.errors import ResultNotFoundError
from service.jobs.intake import Intake
from service.jobs.job import Job, Kind, Queue, Request, State
from service.jobs.model import NewModel
from service.settings import Settings
from service.standalone import child_environment
from service.stores.build import Stores, open_stores
from service.stores.migrate import database_of, migrate
from service.worker.worker import reaper_of
from tests.ceph import CephS3
from tests.fakes.fake_trainer import loss_of, next_state
from tests.integration.chaos import ROOT, end_leases, freeze, is_alive
from tests.servers import RedisServer
from tests.unit.worker.test_training import archive_of
from tests.uploads import sent

MODULE = "tests.integration.fake_training"
STEPS_PER_EPOCH = 5
PATIENCE_S = 200  # of a busy machine, which would lose leases of a few seconds


class Workers:
    """Trainer workers, each with a scratch folder of its own as if on a host of its own."""

    def __init__(self, config: Settings, folder: Path, kind: str = "poll") -> None:
        self.config, self.folder, self.kind = config, folder, kind
        self.running: list["subprocess.Popen[bytes]"] = []

    def start(self, config: Settings | None = None) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", MODULE, self.kind]
        env = child_environment(config or self.config) | {"PYTHONPATH": str(ROOT)}
        self.running.append(subprocess.Popen(command, cwd=ROOT, env=env))
        return self.running[-1]

    def stop(self) -> None:
        for process in self.running:
            process.terminate()
        for process in self.running:
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[tuple[Stores, Workers]]:
    config = Settings(
        data_dir=tmp_path / "data", queues="train", lease_s=100, reap_every_s=0.3, min_free_mib=0
    )
    stores, workers = open_stores(config), Workers(config, tmp_path)
    yield stores, workers
    workers.stop()
    stores.close()


def submit(stores: Stores, epochs: int, orders: str = "") -> Job:
    archive = sent(stores, archive_of({"images/a.nii.gz": b"a"}))
    train = {"epochs": epochs, "steps_per_epoch": STEPS_PER_EPOCH}
    config = {"name": "toy", "train": train, "card": {"summary": orders}}
    request = Request(kind=Kind.TRAIN, inputs={"archive": archive}, options={"config": config})
    intake = Intake(stores.jobs, stores.doorbell, 100, 100, 600)
    return intake.submit(request, "a", queue=Queue.TRAIN, publishes=NewModel(name="toy"))[0]


def wait_until(true: Callable[[], bool], what: str, timeout_s: float = 300) -> None:
    until = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < until, what
        time.sleep(0.05)


def steps_kept(stores: Stores, job_id: UUID) -> int:
    """Steps of the newest checkpoint in the object store, of a job that may yet keep more."""
    job = stores.jobs.job(job_id)
    assert job.state != State.FAILED, job.problem
    keys = [key for key in stores.blobs.list(f"checkpoints/{job_id}/") if key.endswith(".json")]
    steps = [0]
    for key in keys:
        with contextlib.suppress(ResultNotFoundError):  # it was dropped meanwhile
            steps.append(json.loads(stores.blobs.get_bytes(key))["step"])
    return max(steps)


def trainers() -> list[psutil.Process]:
    """The fake trainers that run now and are this test's own."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            words = process.cmdline()
            if "tests.fakes.fake_trainer" in words and "-m" in words:
                found.append(process)
    return found


def unbroken(steps: int) -> list[float]:
    state, losses = "begin", []
    for _ in range(steps):
        state = next_state(state)
        losses.append(loss_of(state))
    return losses


def kill_all(worker: psutil.Process) -> None:
    """A worker and all below it, of which some end as soon as the first is killed."""
    family = [worker, *worker.children(recursive=True)]
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    wait_until(lambda: not any(map(is_alive, family)), "it outlives its kill")


def check_one_good_end(stores: Stores, job_id: UUID, steps: int) -> int:
    """The losses of an unbroken run and exactly one model; gives how many lives it took."""
    job = stores.jobs.job(job_id)
    assert job.state == State.SUCCEEDED, (job.state, job.problem)
    record = stores.blobs.get_bytes(job.manifest.files["metrics.jsonl"].key).decode().splitlines()
    lines = [json.loads(line) for line in record]
    assert [line["losses"]["total"] for line in lines] == unbroken(steps)
    (model,) = stores.models.list()
    assert (model.name, model.version, model.job_id) == ("toy", "1", job_id)
    types = [event.type for event in stores.jobs.events(job_id)]
    assert types.count("succeeded") == 1
    reaper = reaper_of(Settings(), stores)
    reaper.remove_orphans()
    assert stores.blobs.list("checkpoints/") == []
    assert all(stores.blobs.size(file.key) == file.bytes for file in model.files.values())
    return len({line["pid"] for line in lines})


def test_another_host_goes_on_after_a_killed_worker(
    embedded: tuple[Stores, Workers], tmp_path: Path
) -> None:
    stores, workers = embedded
    first = workers.start()
    job = submit(stores, epochs=6, orders="step_s=0.1 family=1 await_at=12")
    wait_until(lambda: steps_kept(stores, job.id) >= 10, "no checkpoint")
    group = psutil.Process(first.pid).children(recursive=True)
    assert len(group) >= 3, "guard, trainer and its child"
    first.kill()
    first.wait()
    wait_until(lambda: not any(map(is_alive, group)), "orphans")
    end_leases(stores)
    workers.start()
    wait_until(lambda: stores.jobs.job(job.id).state.is_terminal, "not done")
    assert check_one_good_end(stores, job.id, 30) == 2
    assert stores.jobs.job(job.id).attempt == 2


def test_a_stopped_worker_hands_over_at_once(embedded: tuple[Stores, Workers]) -> None:
    stores, workers = embedded
    first = workers.start()
    job = submit(stores, epochs=6, orders="step_s=0.1 await_at=12")
    wait_until(lambda: stores.jobs.job(job.id).progress.detail.get("step", 0) >= 3, "no start")
    first.terminate()
    assert first.wait(PATIENCE_S) == 0
    back = stores.jobs.job(job.id)
    assert (back.state, back.attempt) == (State.QUEUED, 0)
    assert steps_kept(stores, job.id) >= 3
    workers.start()
    wait_until(lambda: stores.jobs.job(job.id).state.is_terminal, "not done")
    assert check_one_good_end(stores, job.id, 30) == 2


def test_a_cancelled_training_is_gone_long_before_its_end(embedded: tuple[Stores, Workers]) -> None:
    stores, workers = embedded
    workers.start()
    job = submit(stores, epochs=10_000, orders="step_s=0.05 family=1")
    wait_until(lambda: stores.jobs.job(job.id).progress.stage == "train", "no start")
    wait_until(lambda: len(trainers()) > 0, "no trainer")
    stores.jobs.cancel(job.id)
    wait_until(lambda: stores.jobs.job(job.id).state == State.CANCELLED, "not cancelled")
    wait_until(lambda: trainers() == [], "a trainer lives on")
    assert stores.models.list() == []


def test_an_old_worker_that_wakes_up_publishes_nothing(
    embedded: tuple[Stores, Workers], tmp_path: Path
) -> None:
    """Frozen beyond its lease, it finds itself fenced out; its checkpoints do no harm."""
    stores, workers = embedded
    first = workers.start()
    go = tmp_path / "go"
    job = submit(stores, epochs=4, orders=f"step_s=0.05 await_at=7 go={go}")
    wait_until(lambda: steps_kept(stores, job.id) >= 5, "no checkpoint")
    freeze(first.pid, workers.config.data_dir / "warpline.sqlite")
    go.touch()  # its trainer goes on to the end
    end_leases(stores)
    second = workers.start()
    wait_until(lambda: stores.jobs.job(job.id).fence == 2, "nobody took over")
    os.kill(first.pid, signal.SIGCONT)
    wait_until(lambda: stores.jobs.job(job.id).state.is_terminal, "not done")
    scratch = workers.config.data_dir / "scratch"
    wait_until(lambda: not list(scratch.glob("*")), "the old one works on")
    assert second.poll() is None
    check_one_good_end(stores, job.id, 20)
    assert stores.jobs.job(job.id).fence == 2


@pytest.mark.servers
def test_the_same_on_celery_redis_postgresql_and_s3(
    postgres_url: str, redis_server: RedisServer, s3_server: CephS3, tmp_path: Path
) -> None:
    config = Settings(
        data_dir=tmp_path / "one",
        database_url=postgres_url,
        redis_url=redis_server.url,
        queues="train",
        lease_s=100,
        reap_every_s=0.5,
        store_url=f"s3://{s3_server.new_bucket()}",
        s3_endpoint=s3_server.endpoint,
        s3_access_key=s3_server.access_key,
        s3_secret_key=s3_server.secret_key,
    )
    database = database_of(config)
    migrate(database)
    database.close()
    stores, workers = open_stores(config), Workers(config, tmp_path, "celery")
    try:
        first = workers.start()
        job = submit(stores, epochs=8, orders="step_s=0.1 await_at=12")
        wait_until(lambda: steps_kept(stores, job.id) >= 10, "no checkpoint")
        kill_all(psutil.Process(first.pid))
        first.wait()
        end_leases(stores)
        workers.start(config.model_copy(update={"data_dir": tmp_path / "other"}))
        wait_until(lambda: stores.jobs.job(job.id).state.is_terminal, "not done")
        assert check_one_good_end(stores, job.id, 40) == 2
    finally:
        workers.stop()
        stores.close()
