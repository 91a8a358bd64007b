"""Bring public sets into the layout that their recipes train on.

    python -m trainer.recipes.prepare lung DOWNLOADED PREPARED
    python -m trainer.recipes.prepare liver DOWNLOADED PREPARED
    python -m trainer.recipes.prepare longitudinal DOWNLOADED PREPARED

The first two have landmarks, as pairs in one table and as VTK files, the third published affines; a
training reads a list of points for each image.
"""

import argparse
import csv
import re
import sys
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from service.registration.fields import Affine
from service.registration.files.affine_text import read_affine
from service.registration.files.limits import Limits
from service.registration.files.points_file import write_points
from service.registration.files.volume_file import read_volume, write_volume
from service.registration.grid import Grid
from service.registration.points import WorldPoints
from service.registration.volume import Volume

LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
# Every third landmark is held out of the lung's training.
HELD_OUT = 3
# Of the longitudinal set's test: how often the later visit is displaced, and how far at most.
DISPLACED, TURN_DEGREES, SHIFT_MM = 6, 10.0, 10.0
POINTS = 200


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


def prepare_longitudinal(source: Path, target: Path) -> None:
    """Ljubljana's longitudinal MR: FLAIR and T1W of one patient at two visits.

    Each image gets the places of the same points within the brain, by the published affines. FLAIR
    is for training. T1W is for the test: the later visit is displaced by rigid motions of its
    header, which are known, so no voxel is interpolated.
    """
    patient = source / "patient01"
    points = _places(patient)
    for visit in (1, 2):
        name = f"study{visit}_FLAIR"
        _copy(patient / f"{name}.nii.gz", target / "images" / "flair" / f"{name}.nii.gz")
        _write_points(target / "points" / "flair" / f"{name}.csv", points[name])
    draw = np.random.default_rng(1)
    for n in range(DISPLACED):
        for visit in (1, 2):
            name, group = f"study{visit}_T1W", f"t1w-{n}"
            image, motion = patient / f"{name}.nii.gz", np.eye(4)
            grid = read_volume(image, Limits(), "image", []).grid
            if visit == 2:
                motion = _rigid(draw, grid.to_world((np.array(grid.shape) - 1) / 2))
            moved = Grid(grid.shape, motion @ grid.affine)
            _copy(image, target / "images" / group / f"{name}.nii.gz", moved)
            there = Affine(motion).move(points[name] * LPS_TO_RAS) * LPS_TO_RAS
            _write_points(target / "points" / group / f"{name}.csv", there)


def _places(patient: Path) -> dict[str, np.ndarray]:
    """The same random points of the brain in every image, LPS mm.

    The published maps take points of the common space to FLAIR, and those of FLAIR to T1W.
    """
    brain = read_volume(patient / "brainmask.nii.gz", Limits(), "image", [])
    inside = np.argwhere(brain.data > 0)
    chosen = np.random.default_rng(0).choice(len(inside), POINTS, replace=False)
    common = brain.grid.to_world(inside[np.sort(chosen)])
    places: dict[str, np.ndarray] = {}
    for visit in (1, 2):
        study = f"study{visit}"
        flair = read_affine(patient / f"{study}_FLAIR_to_common_space.txt").move(common)
        t1w = read_affine(patient / f"{study}_T1W_intrastudy_to_FLAIR.txt").move(flair)
        places |= {f"{study}_FLAIR": flair * LPS_TO_RAS, f"{study}_T1W": t1w * LPS_TO_RAS}
    return places


def _rigid(draw: np.random.Generator, centre: np.ndarray) -> np.ndarray:
    """A random turn about a centre, and a shift."""
    turns = np.radians(draw.uniform(-TURN_DEGREES, TURN_DEGREES, 3))
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_euler("xyz", turns).as_matrix()
    shift = draw.uniform(-SHIFT_MM, SHIFT_MM, 3)
    motion[:3, 3] = centre - motion[:3, :3] @ centre + shift
    return motion


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


SETS = {"lung": prepare_lung, "liver": prepare_liver, "longitudinal": prepare_longitudinal}


def main(arguments: list[str] | None = None) -> int:
    """Prepare a set."""
    parser = argparse.ArgumentParser(prog="python -m trainer.recipes.prepare", description=__doc__)
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    chosen = parser.parse_args(arguments)
    SETS[chosen.set](chosen.source, chosen.target)
    sys.stdout.write(f"{chosen.target}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
