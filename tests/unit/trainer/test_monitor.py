"""Who hears of a training, and what."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from service.errors import MissingExtraError
from trainer.config import parse_config
from trainer.monitor import Bar, Board, EventStream, MlflowRun, Monitor, Record, forget_after

STEP = {
    "step": 3,
    "steps": 10,
    "epoch": 1,
    "losses": {"lncc": -0.5},
    "learning_rate": 0.1,
    "seconds_left": 2.0,
    "pairs": ["a<-b"],
}
VALIDATION = {"step": 3, "epoch": 1, "figures": {"dice": 0.75}, "best": True}


@pytest.fixture
def config():
    return parse_config(
        {
            "name": "heard",
            "data": {},
            "network": {"kind": "voxelmorph"},
            "losses": {"image": [{"kind": "ssd"}]},
        }
    )


def test_the_record_holds_steps_and_validations_and_can_be_shortened(tmp_path):
    monitor = Monitor([Record(tmp_path)])
    for step in (1, 2, 3):
        monitor.tell("step", **{**STEP, "step": step})
    monitor.tell("validation", **VALIDATION)
    monitor.tell("stage", stage="export")
    monitor.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["kind"], line["step"]) for line in lines] == [
        ("step", 1), ("step", 2), ("step", 3), ("validation", 3),
    ]  # fmt: skip
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "st')  # a killed process wrote no more
    forget_after(tmp_path, 2)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_nothing_is_shortened_where_there_is_no_record(tmp_path):
    forget_after(tmp_path, 0)
    assert list(tmp_path.iterdir()) == []


def test_events_are_lines_of_json_without_names_of_pairs(capsys):
    stream = EventStream()
    stream.hear("step", STEP)
    stream.hear("stage", {"stage": "evaluate"})
    stream.close()
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert told[0]["event"] == "step"
    assert told[0]["losses"] == {"lncc": -0.5}
    assert "pairs" not in told[0]
    assert told[1] == {"event": "stage", "stage": "evaluate"}


def test_tensorboard_reads_figures_and_pictures(tmp_path):
    Image.fromarray(np.zeros((8, 6, 3), np.uint8)).save(tmp_path / "picture.png")
    board = Board(tmp_path)
    board.hear("step", STEP)
    board.hear("validation", VALIDATION)
    board.hear("picture", {"step": 3, "path": "picture.png"})
    board.close()
    read = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert read.Scalars("train/lncc")[0].value == -0.5
    assert read.Scalars("validation/dice")[0].step == 3
    assert read.Scalars("learning_rate")[0].value == pytest.approx(0.1)
    assert (read.Images("validation")[0].width, read.Images("validation")[0].height) == (6, 8)


class FakeMlflow(SimpleNamespace):
    """What we use of MLflow's client, kept in lists."""

    def __init__(self):
        super().__init__(experiments=[], runs=[], figures=[], ended=0)

    def set_experiment(self, name):
        self.experiments.append(name)

    def start_run(self, run_id=None):
        self.runs.append(run_id or f"run{len(self.runs)}")
        return SimpleNamespace(info=SimpleNamespace(run_id=self.runs[-1]))

    def log_dict(self, document, name):
        assert (document["name"], name) == ("heard", "config.json")

    def log_metrics(self, figures, step):
        self.figures.append((step, figures))

    def end_run(self):
        self.ended += 1


def test_a_resumed_training_goes_on_with_its_mlflow_run(tmp_path, config, monkeypatch):
    fake = FakeMlflow()
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    for _ in range(2):
        run = MlflowRun(config, tmp_path)
        run.hear("step", STEP)
        run.hear("checkpoint", {"step": 3, "path": "x"})
        run.close()
    assert fake.runs == ["run0", "run0"]
    assert fake.experiments == ["heard", "heard"]
    assert fake.figures[0] == (3, {"train/lncc": -0.5, "learning_rate": 0.1})
    assert len(fake.figures) == fake.ended == 2


def test_an_mlflow_address_without_mlflow_says_what_to_install(tmp_path, config, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingExtraError, match="extra mlflow"):
        Monitor.of(tmp_path, config, events=False, is_silent=True)


def test_without_a_terminal_validations_are_lines(capsys):
    bar = Bar()
    bar.hear("step", STEP)
    bar.hear("validation", VALIDATION)
    bar.hear("stage", {"stage": "export"})
    bar.close()
    assert capsys.readouterr().err.split("\n")[:2] == [
        "epoch 1  dice 0.7500  best so far",
        "export ...",
    ]
