"""The real trainer under Celery and Redis, killed twice: the steps are those of an unbroken run."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.jobs.intake import Intake
from service.jobs.job import Job, Kind, Queue, Request, State
from service.jobs.model import NewModel
from service.settings import Settings
from service.standalone import child_environment
from service.stores.build import Stores, open_stores
from service.stores.migrate import database_of, migrate
from tests.balls import losses_of, packed, small_training, write_balls
from tests.integration.chaos import ROOT, end_leases
from tests.integration.test_training_workers import PATIENCE_S, kill_all, steps_kept, wait_until
from tests.servers import RedisServer
from tests.uploads import sent

pytest.importorskip("torch")

from trainer.config import parse_config
from trainer.running import RunOptions, run_training

pytestmark = [pytest.mark.servers, pytest.mark.slow]

# Three steps an epoch; a checkpoint after each.
CONFIG = small_training(epochs=20, picture_every=0)


class Trainers:
    """Trainer workers as compose starts them, each with a data folder of its own."""

    def __init__(self, config: Settings, folder: Path) -> None:
        self.config, self.folder = config, folder
        self.running: list["subprocess.Popen[bytes]"] = []

    def start(self, name: str) -> psutil.Process:
        config = self.config.model_copy(update={"data_dir": self.folder / name})
        env = child_environment(config) | {"PYTHONPATH": str(ROOT)}
        with (self.folder / f"{name}.log").open("wb") as log:
            command = [sys.executable, "-m", "service.worker.main"]
            process = subprocess.Popen(command, cwd=self.folder, env=env, stdout=log, stderr=log)
        self.running.append(process)
        return psutil.Process(process.pid)

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
def stack(
    postgres_url: str, redis_server: RedisServer, tmp_path: Path
) -> Iterator[tuple[Stores, Trainers]]:
    config = Settings(
        data_dir=tmp_path / "gateway",
        database_url=postgres_url,
        redis_url=redis_server.url,
        store_url=(tmp_path / "objects").as_uri(),
        queues="train",
        lease_s=100,  # a busy machine would lose shorter ones
        reap_every_s=0.5,
        min_free_mib=0,
    )
    database = database_of(config)
    migrate(database)
    database.close()
    stores, trainers = open_stores(config), Trainers(config, tmp_path)
    yield stores, trainers
    trainers.stop()
    stores.close()


def submit(stores: Stores, data: Path) -> Job:
    archive = sent(stores, packed(data))
    request = Request(kind=Kind.TRAIN, inputs={"archive": archive}, options={"config": CONFIG})
    intake = Intake(stores.jobs, stores.doorbell, 100, 100, 600)
    return intake.submit(request, "a", queue=Queue.TRAIN, publishes=NewModel(name="balls"))[0]


def learners(worker: psutil.Process) -> list[psutil.Process]:
    """The processes below a worker that learn."""
    below = worker.children(recursive=True)
    return [process for process in below if process.cmdline()[1:4] == ["-m", "trainer", "train"]]


def unbroken(data: Path, out: Path) -> list[dict[str, float]]:
    """The losses of the same training here, which nobody kills."""
    document: dict[str, Any] = CONFIG | {"data": CONFIG["data"] | {"root": str(data)}}
    run_training(parse_config(document), out, RunOptions(is_silent=True, is_finished=False))
    return losses_of((out / "metrics.jsonl").read_text("utf-8"))


def test_a_training_outlives_its_trainer_and_then_its_worker(
    stack: tuple[Stores, Trainers], tmp_path: Path
) -> None:
    stores, trainers = stack
    data = write_balls(tmp_path / "balls")
    job = submit(stores, data)
    first = trainers.start("first")
    wait_until(lambda: steps_kept(stores, job.id) >= 6, "no checkpoint")
    (learner,) = learners(first)
    learner.kill()
    kept = steps_kept(stores, job.id)
    wait_until(lambda: steps_kept(stores, job.id) >= kept + 6, "it did not go on")
    kill_all(first)
    end_leases(stores)
    second = trainers.start("second")
    wait_until(lambda: stores.jobs.job(job.id).state.is_terminal, "not done")

    done = stores.jobs.job(job.id)
    assert done.state == State.SUCCEEDED, done.problem
    assert done.attempt == 3
    assert second.is_running()
    record = stores.blobs.get_bytes(done.manifest.files["metrics.jsonl"].key).decode()
    assert losses_of(record) == unbroken(data, tmp_path / "unbroken")
    steps = [json.loads(line)["step"] for line in record.splitlines() if '"kind": "step"' in line]
    assert steps == list(range(1, 61))
    (model,) = stores.models.list()
    assert (model.name, model.version, model.job_id) == ("balls", "1", job.id)
