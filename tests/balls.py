"""Balls that moved along one axis: data so small that a training takes seconds."""

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from service.registration.files.volume_file import write_volume
from service.registration.grid import Grid
from service.registration.volume import Volume

SIZE = 16
SHIFTS: dict[str, tuple[float, ...]] = {
    "train": (-1, 0, 2),
    "valid": (1,),
    # Six pairs are the fewest on which one model can be told to be worse than another.
    "test": (1.5, 1.75, 2.0, 2.25, 2.5, 2.75),
}


def ball(shift: float) -> tuple[np.ndarray, np.ndarray]:
    """A bright ball, moved along the first axis, with its label."""
    i, j, k = np.indices((SIZE, SIZE, SIZE)) - (SIZE - 1) / 2
    far = np.sqrt((i - shift) ** 2 + j**2 + (0.8 * k) ** 2)
    return (100 / (1 + np.exp(far - 4))).astype(np.float32), (far < 4).astype(np.uint8)


def write_balls(root: Path, shifts: Mapping[str, Sequence[float]] = SHIFTS) -> Path:
    """Pairs of a ball in the middle and a moved one, in folders as `small_training` names them."""
    grid = Grid((SIZE, SIZE, SIZE), np.eye(4))
    for split, values in shifts.items():
        for n, shift in enumerate(values):
            for side, where in (("fixed", 0.0), ("moving", shift)):
                image, label = ball(where)
                for kind, voxels in (("images", image), ("labels", label)):
                    path = root / split / f"{side}_{kind}" / f"case{n}.nii.gz"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write_volume(path, Volume(voxels, grid))
    return root


def small_training(
    root: Path | None = None, *, name: str = "balls", **train: Any
) -> dict[str, Any]:
    """A configuration for them; `root` is left out where a worker sets it."""
    return {
        "name": name,
        "data": {
            **({} if root is None else {"root": str(root)}),
            "labels": "required",
            "splits": {"kind": "explicit", "train": ["train"], "valid": ["valid"],
                       "test": ["test"]},
        },
        "network": {"kind": "voxelmorph", "encoder": [8, 8], "decoder": [8, 8, 8],
                    "output": {"kind": "velocity", "stride": 2, "steps": 3}},
        "losses": {"image": [{"kind": "ssd", "weight": 10}], "label": [{"kind": "dice"}],
                   "field": [{"kind": "gradient", "weight": 0.1}]},
        "train": {"epochs": 4, "threads": 1, "loaders": 0, "checkpoint_every_s": 0,
                  "picture_every": 2, "optimiser": {"kind": "adam", "learning_rate": 0.01},
                  **train},
    }  # fmt: skip


def packed(root: Path) -> bytes:
    """A folder as the archive that a caller uploads."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for path in sorted(root.iterdir()):
            archive.add(path, path.name)
    return file.getvalue()


def losses_of(record: str) -> list[dict[str, float]]:
    """The losses of every step in the text of a `metrics.jsonl`."""
    lines = [json.loads(line) for line in record.splitlines()]
    return [line["losses"] for line in lines if line["kind"] == "step"]
