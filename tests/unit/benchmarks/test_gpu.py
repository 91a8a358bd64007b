"""The steps of a training on a GPU, gone through on the CPU with next to nothing to learn."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from benchmarks import gpu
from service.errors import TrainingStoppedError
from service.registration.files.volume_file import write_volume
from service.registration.grid import Grid
from service.registration.volume import Volume
from trainer.config import TrainConfig
from trainer.running import RunOptions, run_training

TINY = (
    "data.grid.shape=[32,32,32]", "data.pairs_per_epoch=1", "data.evaluation_pairs=1",
    "network.features=[13,13]", "network.search_radius=1", "network.widths=[2,2]",
    "train.threads=1", "train.picture_every=0",
)  # fmt: skip


def _call(out: Path, epochs: int, *more: str) -> int:
    changes = [word for change in (*TINY, f"train.epochs={epochs}") for word in ("--set", change)]
    fixed = ["--device", "cpu", "--pairs", "6", "--size", "16", "16", "24", "--batch", "2"]
    return gpu.main(["--out", str(out), *fixed, "--repeats", "1", *changes, *more])


def ball(folder: Path, role: str) -> str:
    """A file with a ball in it, of a radius that its role says."""
    grid = Grid((32, 36, 28), np.diag([4.0, 4.0, 4.0, 1.0]))
    away = np.linalg.norm(np.moveaxis(np.indices(grid.shape), 0, -1) - (16, 18, 14), axis=-1)
    radius = {"fixed": 9.0, "moving": 8.0}[role]
    inside = 100 / (1 + np.exp(2 * (away - radius)))
    path = folder / f"{role}.nii.gz"
    write_volume(path, Volume(inside.astype(np.float32), grid))
    return str(path)


def _stopped(config: TrainConfig, out: Path, options: RunOptions) -> None:
    """As if the machine were given back before there is a model."""
    run_training(config, out, replace(options, is_finished=False))
    raise TrainingStoppedError("Stopped.")


@pytest.mark.slow
def test_a_dry_run_trains_goes_on_exports_and_times(tmp_path, capfd, monkeypatch):
    with monkeypatch.context() as first:
        first.setattr(gpu, "run_training", _stopped)
        with pytest.raises(TrainingStoppedError):
            _call(tmp_path, 1)
    files = [word for role in ("fixed", "moving") for word in (f"--{role}", ball(tmp_path, role))]
    assert _call(tmp_path, 2, *files) == 0
    told = capfd.readouterr().out
    assert told.count("0.0e+00 mm from the CPU's field") == 6
    assert told.count("ms told its sizes") == 1
    assert told.count("largest difference of CPU and cpu: 0.0e+00 voxels") == 1
    assert "pairs a second" in told
    assert told.count("by the kernels on the CPU") == 1
    assert told.count("ms as a CUDA graph") == 4
    lines = (tmp_path / "run" / "metrics.jsonl").read_text("utf-8").splitlines()
    steps = [row["step"] for row in map(json.loads, lines) if row["kind"] == "step"]
    assert steps == [1, 2], "the second call went on"
    assert list((tmp_path / "run" / "model").rglob("model.onnx"))
