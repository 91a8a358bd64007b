"""Folds run as processes of their own; what is gathered are the evaluations that they left."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from service.errors import TrainingFailedError, TrainingStoppedError, ValidationError
from trainer.crossval import CrossvalOrder, crossval, show

# Stands for `python -m trainer train`: leaves an evaluation whose Dice is 0.6 + fold / 10.
TRAINING = """
import argparse, json, pathlib, sys
parser = argparse.ArgumentParser()
parser.add_argument("config", nargs="+")
for name in ("out", "fold", "data"):
    parser.add_argument("--" + name)
parser.add_argument("--set", action="append", default=[])
parser.add_argument("--resume", action="store_true")
parser.add_argument("--quiet", action="store_true")
chosen = parser.parse_args()
out = pathlib.Path(chosen.out)
out.mkdir(parents=True, exist_ok=True)
(out / "told.json").write_text(json.dumps(vars(chosen)))
code = int((out.parent / f"code-{chosen.fold}").read_text()) if (
    out.parent / f"code-{chosen.fold}").exists() else 0
if code:
    sys.exit(code)
means = {"dice": 0.6 + int(chosen.fold) / 10, "dice_before": 0.5}
if chosen.fold == "0":
    means["tre_mm"] = 2.0
(out / "evaluation").mkdir()
(out / "evaluation" / "evaluation.json").write_text(json.dumps(
    {"pairs": 4, "statistics": {"all": {name: {"mean": x} for name, x in means.items()}}}))
"""


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    script = tmp_path / "training.py"
    script.write_text(TRAINING)
    return [sys.executable, str(script)]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    document = {
        "data": {"labels": "required", "splits": {"kind": "folds", "folds": 3}},
        "network": {"kind": "voxelmorph"},
        "losses": {"label": [{"kind": "dice"}]},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def _told(out: Path, fold: int) -> dict[str, object]:
    told: dict[str, object] = json.loads((out / f"fold-{fold}" / "told.json").read_text())
    return told


def test_mean_and_deviation_over_the_folds_are_gathered(
    command: list[str], config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    order = CrossvalOrder([config], out, data=tmp_path, changes=["train.epochs=3"])
    found = crossval(order, command)
    dice = found.table["dice"]
    assert dice.folds == pytest.approx((0.6, 0.7, 0.8))
    assert dice.mean == pytest.approx(0.7)
    assert dice.std == pytest.approx(np.std([0.6, 0.7, 0.8], ddof=1))
    assert found.table["tre_mm"].mean == 2.0
    told = json.loads((out / "crossval.json").read_text())
    assert told["metrics"]["tre_mm"]["folds"] == [2.0, None, None]
    with (out / "crossval.csv").open() as file:
        rows = {row["metric"]: row for row in csv.DictReader(file)}
    assert (rows["dice"]["fold_2"], rows["tre_mm"]["fold_1"]) == ("0.8", "")
    show(found)
    assert "0.7 ± 0.1" in capsys.readouterr().out
    assert [_told(out, fold)["fold"] for fold in range(3)] == ["0", "1", "2"]
    assert _told(out, 1)["set"] == ["train.epochs=3"]
    assert _told(out, 1)["data"] == str(tmp_path)


def test_the_number_of_folds_can_be_chosen(
    command: list[str], config: Path, tmp_path: Path
) -> None:
    found = crossval(CrossvalOrder([config], tmp_path / "out", folds=2), command)
    assert found.pairs == (4, 4)
    assert _told(tmp_path / "out", 0)["set"] == ["data.splits.folds=2"]


def test_a_fold_that_fails_is_named_and_resuming_keeps_what_is_done(
    command: list[str], config: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "code-1").write_text("75")
    with pytest.raises(TrainingStoppedError, match="Fold 1 was stopped"):
        crossval(CrossvalOrder([config], out), command)
    (out / "code-1").write_text("1")
    (out / "fold-0" / "told.json").unlink()
    with pytest.raises(TrainingFailedError, match="Fold 1 ended with exit code 1"):
        crossval(CrossvalOrder([config], out, resume=True), command)
    assert not (out / "fold-0" / "told.json").exists(), "a fold that was done ran again"
    (out / "code-1").unlink()
    assert len(crossval(CrossvalOrder([config], out, resume=True), command).pairs) == 3
    assert _told(out, 1)["resume"] is True
    assert _told(out, 2)["resume"] is False


def test_splits_that_are_no_folds_are_refused(
    command: list[str], config: Path, tmp_path: Path
) -> None:
    order = CrossvalOrder([config], tmp_path / "out", changes=["data.splits.kind=explicit"])
    with pytest.raises(ValidationError, match="needs folds") as caught:
        crossval(order, command)
    assert caught.value.field == "/data/splits/kind"
    assert not (tmp_path / "out").exists()
