"""Bring two public landmark sets into the layout that their recipes train on.

    python -m trainer.recipes.prepare lung DOWNLOADED PREPARED
    python -m trainer.recipes.prepare liver DOWNLOADED PREPARED

Their landmarks come as pairs in one table and as VTK files; a training reads a list of points for
each image.
"""

import argparse
import csv
import re
import sys
from pathlib import Path

import numpy as np

from service.registration.files.limits import Limits
from service.registration.files.points_file import write_points
from service.registration.files.volume_file import read_volume, write_volume
from service.registration.grid import Grid
from service.registration.points import WorldPoints
from service.registration.volume import Volume

LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
# Every third landmark is held out of the lung's training.
HELD_OUT = 3


def prepare_lung(source: Path, target: Path) -> None:
    """Elastix' lung CT: baseline (fixed) and follow-up, 26 pairs of landmarks.

    Two of three landmarks are for training, the third is for the test, with the same two images:
    each split has its own copy of them, since no image may be in two splits.
    """
    images = {
        "fixed": "3DCT_lung_baseline_small.mha",
        "moving": "followup_reconstructed.nii.gz",
    }
    for split in ("train", "test"):
        for role, name in images.items():
            _copy(source / name, target / f"{split}_{role}.nii.gz")
    rows = np.array(_table(source / "pairs_corrected_dev26.csv"))
    is_test = np.arange(len(rows)) % HELD_OUT == HELD_OUT - 1
    for split, kept in (("train", ~is_test), ("test", is_test)):
        for side, columns in (("fixed", rows[kept, :3]), ("moving", rows[kept, 3:])):
            _write_points(target / f"{split}_{side}.csv", columns)


def prepare_liver(source: Path, target: Path) -> None:
    """ETH's 4-D liver MR: for each volunteer an exhale master and two other states.

    Landmarks inside and outside the liver are joined. All states have the master's spacing: one
    header says otherwise, against its own landmarks.
    """
    for volunteer in sorted(path for path in source.iterdir() if path.is_dir()):
        master = next(volunteer.glob("exhMaster*.mha"))
        grid = read_volume(master, Limits(), "image", []).grid
        for image in sorted(volunteer.glob("*.mha")):
            state = image.name.split(".")[0].removesuffix("_unmasked")
            name = f"{0 if image == master else 1}_{state}"
            _copy(image, target / "images" / volunteer.name / f"{name}.nii.gz", grid)
            found = [_vtk(volunteer / f"{state}LM{place}.vtk") for place in ("liver", "outside")]
            _write_points(target / "points" / volunteer.name / f"{name}.csv", np.vstack(found))


def _copy(source: Path, target: Path, grid: Grid | None = None) -> None:
    volume = read_volume(source, Limits(), "image", [])
    target.parent.mkdir(parents=True, exist_ok=True)
    write_volume(target, volume if grid is None else Volume(volume.data, grid))


def _write_points(path: Path, lps_mm: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_points(path, WorldPoints(lps_mm * LPS_TO_RAS))


def _table(path: Path) -> list[list[float]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [[float(value) for value in row] for row in list(csv.reader(file))[1:]]


def _vtk(path: Path) -> np.ndarray:
    """The points of a legacy VTK file in ASCII."""
    text = path.read_text("ascii")
    head = re.search(r"POINTS (\d+) float\n", text)
    if head is None:
        raise ValueError(f"{path.name} holds no points")
    numbers = text[head.end() :].split()[: 3 * int(head[1])]
    return np.array(numbers, dtype=float).reshape(-1, 3)


def main(arguments: list[str] | None = None) -> int:
    """Prepare a set."""
    parser = argparse.ArgumentParser(prog="python -m trainer.recipes.prepare", description=__doc__)
    parser.add_argument("set", choices=["lung", "liver"])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    chosen = parser.parse_args(arguments)
    {"lung": prepare_lung, "liver": prepare_liver}[chosen.set](chosen.source, chosen.target)
    sys.stdout.write(f"{chosen.target}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
