"""`warpline train`: what is checked before anything starts, and what a server is sent."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from service.cli import train as train_command
from service.cli.main import app
from service.cli.train import duration, progress_line, read_document
from service.cli.train_local import LocalRun, command_line
from service.client.views import Job
from service.jobs.model import ModelId
from tests.made_models import card_for
from trainer.config import TrainConfig

CONFIG: dict[str, Any] = {
    "data": {"root": "images", "pairing": "unpaired"},
    "network": {"kind": "voxelmorph"},
    "losses": {"image": [{"kind": "lncc"}]},
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "my.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    return path


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


def test_every_option_is_explained() -> None:
    told = run("--explain")
    assert told.exit_code == 0
    for option in ("data.root", "train.epochs", "losses.image", "seed"):
        assert option in told.stdout
    assert json.loads(run("--explain", "--json").stdout) == TrainConfig.model_json_schema()


def test_a_wrong_configuration_is_bad_input_with_all_its_places(
    config: Path, tmp_path: Path
) -> None:
    told = run(
        config,
        "--set",
        "network.kind=x",
        "--set",
        "seed=-1",
        "--url",
        "http://127.0.0.1:9",
        "--out",
        tmp_path / "out",
    )
    assert told.exit_code == 2
    assert "/network/kind" in told.stderr
    assert "/seed" in told.stderr


@pytest.mark.parametrize("arguments", [[], ["--out", "x"]])
def test_what_is_missing_is_named(arguments: list[str], config: Path) -> None:
    told = run(*arguments) if arguments else run(config)
    assert told.exit_code == 2
    assert "--out" in told.stderr or "configuration" in told.stderr


def test_a_server_gets_what_was_written_and_no_folder_of_this_machine(config: Path) -> None:
    document, root = read_document([config], ["train.epochs=3"])
    assert document == {
        "data": {"pairing": "unpaired"},
        "network": {"kind": "voxelmorph"},
        "losses": {"image": [{"kind": "lncc"}]},
        "train": {"epochs": 3},
    }
    assert root == Path("images")


def test_the_trainer_gets_its_own_command_line(config: Path, tmp_path: Path) -> None:
    chosen = LocalRun([config], tmp_path, Path("d"), 2, ("train.epochs=3",), resume=True)
    assert command_line(chosen)[1:] == [
        "-m", "trainer", "train", str(config), "--out", str(tmp_path), "--data", "d", "--fold", "2",
        "--set", "train.epochs=3", "--resume",
    ]  # fmt: skip


def test_the_exit_code_is_the_trainers(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = [sys.executable, "-c", "import sys; sys.exit(75)"]
    monkeypatch.setattr("service.cli.train_local.command_line", lambda _run: fake)
    assert run(config, "--out", tmp_path / "out").exit_code == 75


def job(**values: Any) -> Job:
    now = "2026-11-26T12:00:00Z"
    known = {"id": "6f1f0c1e-54a9-4d0c-9d5f-0d4f4f0e7c11", "kind": "train", "state": "running"}
    return Job(**known | {"stage": "train", "fraction": 0.5, "created_at": now} | values)


def test_the_bar_tells_epoch_losses_and_the_time_left() -> None:
    detail = {"epoch": 3, "losses": {"total": 0.51234, "lncc": 0.4}}
    line = progress_line(job(detail=detail, seconds_left=3725))
    assert line == "train  epoch 3  total 0.5123  lncc 0.4  1 h 02 min left"
    assert progress_line(job(place={"position": 2})) == "queued (2)"
    assert duration(59.7) == "1 min 00 s"


class Server:
    """What the command asks of a client, and nothing behind it."""

    def __init__(self) -> None:
        self.orders: list[tuple[dict[str, Any], dict[str, Any]]] = []

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def train(self, config: dict[str, Any], **terms: Any) -> Job:
        self.orders.append((config, terms))
        return job(state="queued", place={"position": 1})

    def wait(self, _job_id: object, tell: Any) -> Job:
        tell(job(detail={"epoch": 1}))
        summary = {
            "model": {"name": "model", "version": "2"},
            "comparison": {
                "against": "model/1",
                "verdict": "better",
                "metrics": {"dice": {"candidate": 0.8, "production": 0.7}},
            },
        }
        return job(state="succeeded", summary=summary)

    def download(self, _job_id: object, folder: Path) -> None:
        names = ("model.onnx", "README.md", "train.yaml", "config.yaml", "metrics.jsonl")
        for name in (*names, "metrics.csv", "evaluation.html", "comparison.json"):
            (folder / name).write_bytes(b"x")
        card = card_for(ModelId(name="model", version="2"), b"x")
        (folder / "card.json").write_text(card.written())


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    monkeypatch.setattr(train_command, "connect", lambda _url, _key: made)
    return made


def test_a_server_trains_and_its_results_are_fetched(
    config: Path, tmp_path: Path, server: Server
) -> None:
    told = run(config, "--url", "http://x", "--data", tmp_path, "--out", tmp_path / "out")
    assert told.exit_code == 0, told.output
    assert server.orders[0][1] == {"data": tmp_path}
    out = tmp_path / "out"
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert files == {
        "config.yaml", "metrics.jsonl",
        *(f"model/model/2/{n}" for n in ("model.onnx", "card.json", "README.md", "train.yaml")),
        *(f"evaluation/{n}" for n in ("metrics.csv", "evaluation.html", "comparison.json")),
    }  # fmt: skip
    assert "model/2" in told.stdout
    assert "better" in told.stdout
    assert "warpline models promote model 2" in told.stdout


def test_detached_it_gives_the_job_and_goes(config: Path, server: Server) -> None:
    told = run(config, "--url", "http://x", "--dataset", "d", "--detach")
    assert told.exit_code == 0
    assert told.stdout.strip() == "6f1f0c1e-54a9-4d0c-9d5f-0d4f4f0e7c11"
    assert server.orders[0][1] == {"dataset_id": "d"}


def test_a_recipe_is_found_by_its_name_and_a_wrong_name_is_told_all_of_them(
    tmp_path: Path,
) -> None:
    listed = json.loads(run("--recipes", "--json").stdout)
    assert "hippocampus-combined" in listed
    assert all(meaning for meaning in listed.values())
    assert "prostate-weakly" in run("--recipes").stdout
    told = run("hippocampus", "--out", tmp_path / "out")
    assert told.exit_code == 2
    assert "hippocampus-combined" in told.stderr


@pytest.mark.parametrize("option", ["--resume", "--start-from"])
def test_what_only_a_training_here_can_do_is_refused_for_a_server(
    option: str, config: Path, tmp_path: Path
) -> None:
    more = [config] if option == "--start-from" else []
    told = run(config, "--out", tmp_path, "--url", "http://127.0.0.1:9", option, *more)
    assert told.exit_code == 2
    assert "this machine" in told.stderr
