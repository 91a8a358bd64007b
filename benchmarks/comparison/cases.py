"""The pairs of `pairs.csv`, each with what it is measured by."""

import csv
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK

DICE = "Dice"


@dataclass(frozen=True)
class Landmarks:
    """Points that belong together, (n, 3), LPS mm; `name` is empty where there is one list."""

    name: str
    fixed: np.ndarray
    moving: np.ndarray

    @property
    def measure(self) -> str:
        return f"TRE, mm, {self.name}" if self.name else "TRE, mm"


@dataclass(frozen=True)
class Case:
    """One pair; `labels` are of the fixed and of the moving image."""

    category: str
    name: str
    fixed: Path
    moving: Path
    labels: tuple[Path, Path] | None = None
    landmarks: tuple[Landmarks, ...] = field(default=())

    @property
    def measures(self) -> tuple[str, ...]:
        first = () if self.labels is None else (DICE,)
        return (*first, *(landmarks.measure for landmarks in self.landmarks))


def listed(data: Path, category: str, made: Path) -> list[Case]:
    """The pairs of one category; rows of the same two images make one case.

    Args:
        data: The folder of `pairs.csv`.
        category: Of its first column.
        made: Where an image is put whose header had to be mended.
    """
    with (data / "pairs.csv").open(newline="") as text:
        rows = [row for row in csv.DictReader(text) if row["category"] == category]
    pairs = itertools.groupby(rows, key=lambda row: (row["fixed"], row["moving"]))
    return [
        _case(category, data, Path(fixed), Path(moving), list(group), made)
        for (fixed, moving), group in pairs
    ]


def _case(
    category: str, data: Path, fixed: Path, moving: Path, rows: list[dict[str, str]], made: Path
) -> Case:
    name = f"{_stem(fixed)}<-{_stem(moving)}"
    if (folder := fixed.parent.name) not in (category, "images"):
        name = f"{folder} {name}"
    labels, landmarks = None, []
    for row in rows:
        if row["fixed_ref"].endswith(".csv"):
            which = Path(row["fixed_ref"]).stem.rsplit("_", 1)[-1] if len(rows) > 1 else ""
            landmarks.append(read_landmarks(which, data / row["fixed_ref"]))
        else:
            labels = (data / row["fixed_ref"], data / row["moving_ref"])
    mended = _mended(data / fixed, data / moving, made)
    return Case(category, name, data / fixed, mended, labels, tuple(landmarks))


def read_landmarks(name: str, path: Path) -> Landmarks:
    rows = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
    return Landmarks(name, rows[:, :3], rows[:, 3:6])


def _stem(path: Path) -> str:
    name = path.name.split(".")[0]
    return name.removesuffix("_SS").removeprefix("hippocampus_")


def _mended(fixed: Path, moving: Path, made: Path) -> Path:
    """One frame of the liver says 5 mm between slices where all the others have 4 (its notes)."""
    if "cyc_1_10" not in moving.name:
        return moving
    image = SimpleITK.ReadImage(str(moving))
    image.SetSpacing(SimpleITK.ReadImage(str(fixed)).GetSpacing())
    mended = made / f"{moving.parent.name}_{_stem(moving)}.nii.gz"
    SimpleITK.WriteImage(image, str(mended))
    return mended


def few(cases: Iterable[Case], most: int | None) -> list[Case]:
    """The first ones."""
    return list(itertools.islice(cases, most))
