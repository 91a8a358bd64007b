"""`POST /v1/train` with the real trainer on `warpline up`: killed, served, promoted, taken back."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from service.client import Client
from service.client.views import Job
from service.errors import ModelWorseError, TrainingDataError, ValidationError
from service.registration.models_folder import ModelFolder
from service.registration.report import Report
from tests.balls import losses_of, small_training, write_balls
from tests.e2e.conftest import PATIENCE_S, WARPLINE, Up, start
from tests.e2e.test_up import wait_until

pytest.importorskip("torch")

from trainer.config import parse_config
from trainer.running import RunOptions, run_training

pytestmark = pytest.mark.slow

LONG = {"epochs": 40, "picture_every": 0}
# So slow a learner that its six test pairs are all worse than those of the first.
POOR = LONG | {"optimiser": {"kind": "adam", "learning_rate": 1e-6}}
SHORT = {"epochs": 2, "picture_every": 0}
Wanted = Callable[[Up], list[psutil.Process]]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One stack for the file; each test trains models of other names."""
    running = start(tmp_path_factory.mktemp("stack"), "--workers", "1")
    yield running
    running.stop()


@pytest.fixture
def client(stack: Up) -> Iterator[Client]:
    with Client(stack.url) as made:
        yield made


@pytest.fixture(scope="module")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_balls(tmp_path_factory.mktemp("balls"))


def unbroken(config: dict[str, Any], data: Path, out: Path) -> list[dict[str, float]]:
    """The losses of the same training here, which nobody kills."""
    document = config | {"data": config["data"] | {"root": str(data)}}
    run_training(parse_config(document), out, RunOptions(is_silent=True, is_finished=False))
    return losses_of((out / "metrics.jsonl").read_text("utf-8"))


def train_and_kill(
    client: Client, stack: Up, config: dict[str, Any], data: Path, wanted: Wanted
) -> Job:
    """A training that loses processes once, as soon as a checkpoint is in the object store."""
    job = client.train(config, data=data)
    folder = stack.data_dir / "objects" / "checkpoints" / str(job.id)
    assert wait_until(lambda: any(folder.rglob("*.json"))), "no checkpoint"
    processes = wanted(stack)
    assert processes, "it ended too soon"
    for process in processes:
        if wanted is trainer_workers:
            stack.kill(process)
        else:
            process.kill()
    return client.wait(job.id)


def trainer_children(stack: Up) -> list[psutil.Process]:
    """The process that learns, below the guard, below the trainer worker."""
    (worker,) = stack.children("trainer")
    below = worker.children(recursive=True)
    return [process for process in below if process.cmdline()[1:4] == ["-m", "trainer", "train"]]


def trainer_workers(stack: Up) -> list[psutil.Process]:
    return stack.children("trainer")


def served(client: Client, balls: Path, model: str) -> str:
    """The version that answers a registration, by its report."""
    pair = {
        side: balls / "test" / f"{side}_images" / "case5.nii.gz" for side in ("fixed", "moving")
    }
    job = client.register(**pair, model=model, initialise="none", refine="none", wait=True)
    report = httpx.get(
        client.results(job.id).files["report.json"].url, timeout=PATIENCE_S
    ).raise_for_status()
    used = Report.model_validate_json(report.content).model
    assert used is not None
    assert used.name == model.partition("@")[0]
    return used.version


def aliases(client: Client, name: str) -> dict[str, list[str]]:
    return {m["version"]: m["aliases"] for m in client.models() if m["name"] == name}


def test_a_killed_training_ends_as_if_nothing_was_and_its_model_is_served(
    client: Client, stack: Up, balls: Path, tmp_path: Path
) -> None:
    workers = [child.pid for child in stack.children("worker")]
    config = small_training(name="balls", **LONG)
    job = train_and_kill(client, stack, config, balls, trainer_children)
    check_one_broken_run(client, job, unbroken(config, balls, tmp_path / "one"), stack)
    assert aliases(client, "balls") == {"1": ["candidate"]}
    assert served(client, balls, "balls") == served(client, balls, "balls@candidate") == "1"
    assert "production" in client.promote("balls", "1")["aliases"]

    config = small_training(name="balls", **POOR)
    job = train_and_kill(client, stack, config, balls, trainer_workers)
    check_one_broken_run(client, job, unbroken(config, balls, tmp_path / "two"), stack)
    compared = (job.summary or {})["comparison"]
    assert (compared["against"], compared["pairs"], compared["verdict"]) == ("balls/1", 6, "worse")
    assert served(client, balls, "balls") == "1"
    with pytest.raises(ModelWorseError):
        client.promote("balls", "2")
    client.promote("balls", "2", force=True)
    assert served(client, balls, "balls") == "2"
    assert client.roll_back("balls")["version"] == "1"
    assert served(client, balls, "balls") == "1"
    assert [child.pid for child in stack.children("worker")] == workers


def check_one_broken_run(
    client: Client, job: Job, expected: list[dict[str, float]], stack: Up
) -> None:
    """Events told figures, another life went on, and the record is that of an unbroken run."""
    assert f"job={job.id} resumes step=" in (stack.data_dir / "logs" / "trainer.log").read_text()
    events = list(client.events(job.id))
    types = [event.type for event in events]
    assert types.count("succeeded") == 1
    assert "requeued" in types
    told = [event.data.get("detail", {}) for event in events]
    figures = [detail for detail in told if "epoch" in detail]
    assert figures
    assert {"epoch", "step", "steps", "losses", "seconds_left"} <= figures[-1].keys()
    assert {"ssd", "dice", "gradient"} <= figures[-1]["losses"].keys()
    url = client.results(job.id).files["metrics.jsonl"].url
    record = httpx.get(url, timeout=PATIENCE_S).raise_for_status()
    assert losses_of(record.text) == expected


def test_the_command_line_brings_home_what_a_training_here_leaves(
    stack: Up, balls: Path, tmp_path: Path
) -> None:
    config, out = tmp_path / "balls.yaml", tmp_path / "out"
    config.write_text(yaml.safe_dump(small_training(name="carried", **SHORT)), "utf-8")
    command = [*WARPLINE, "train", str(config), "--data", str(balls), "--out", str(out)]
    ended = subprocess.run(
        [*command, "--url", stack.url], capture_output=True, text=True, check=False, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    assert "carried/1" in ended.stdout
    engine = ModelFolder(out / "model").load("carried/1")
    assert engine.card.evaluation
    files = {path.name for path in (out / "model" / "carried" / "1").iterdir()}
    assert files == {"model.onnx", "card.json", "README.md", "train.yaml"}
    assert {"metrics.csv", "evaluation.html"} <= {p.name for p in (out / "evaluation").iterdir()}
    assert {path.name for path in out.iterdir()} == {
        "config.yaml", "metrics.jsonl", "model", "evaluation",
    }  # fmt: skip


def test_every_fault_of_a_configuration_is_told_at_the_door(client: Client, balls: Path) -> None:
    config = small_training(name="faulty", epochs=0, colour="blue")
    config["losses"]["image"] = [{"kind": "telepathy"}]
    with pytest.raises(ValidationError) as caught:
        client.train(config, data=balls)
    places = {fault["field"] for fault in caught.value.errors}
    assert places >= {
        "/config/train/epochs", "/config/train/colour", "/config/losses/image/0/kind",
    }  # fmt: skip


def test_every_fault_of_the_data_is_told_without_a_name(
    client: Client, stack: Up, tmp_path: Path
) -> None:
    data = write_balls(tmp_path / "data")
    (data / "train" / "fixed_labels" / "case2.nii.gz").unlink()
    (data / "valid" / "moving_images" / "case0.nii.gz").write_bytes(b"nothing")
    with pytest.raises(TrainingDataError) as caught:
        client.train(small_training(name="unread", **SHORT), data=data, wait=True)
    told = caught.value.problem()
    assert [fault["field"] for fault in told["errors"]] == [
        "train/fixed_images, file 3 of 3 by name",
        "valid/moving_images, file 1 of 1 by name",
    ]
    assert "labels" in told["errors"][0]["detail"]
    (job,) = client.jobs(["failed"]).jobs
    whole = job.model_dump_json() + "".join(e.model_dump_json() for e in client.events(job.id))
    assert "case" not in whole
    assert str(stack.data_dir) not in whole
    assert not [path for path in (stack.data_dir / "logs").iterdir() if "case" in path.read_text()]
