"""Pairs in memory, and how each is measured, for `benchmarks.accuracy`.

The pairs of `pairs.csv` by their category; further sets as `benchmarks.comparison` has them; and
`mr_ct`, one head's MR and CT, both ways, whose moving image is deformed by two known fields.
"""

import csv
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from service.registration.fields import Affine, DisplacementField
from service.registration.files.limits import Limits
from service.registration.files.volume_file import read_label_map, read_volume
from service.registration.grid import Grid
from service.registration.initialise import initialise
from service.registration.label_metrics import dice
from service.registration.resample import warp, warp_labels
from service.registration.volume import Volume

LPS = np.array([-1.0, -1.0, 1.0])
LARGEST_MM, KNOTS_MM = 10.0, 50.0  # of the known fields: longest displacement, and their detail
SEEDS = (1, 2)
HEAD_HU, HEAD_MR = -300.0, 25.0  # what is brighter belongs to the head
POINTS_STEP = (6, 6, 2)  # voxels between the points that are measured

Measure = Callable[[Affine, DisplacementField], float]


@dataclass(frozen=True)
class Case:
    """A pair and the way to measure a transform of it."""

    name: str
    fixed: Volume
    moving: Volume
    measure: Measure


def cases(category: str, data: Path) -> Iterator[Case]:
    """The pairs of one category; a liver pair's two landmark files make two cases."""
    if category == "mr_ct":
        yield from _mr_ct(data / "multimodal_rire_cmtk")
        return
    is_listed = False
    with (data / "pairs.csv").open(newline="") as text:
        for line in csv.DictReader(text):
            if line["category"] == category:
                is_listed = True
                yield _case(line, data)
    if not is_listed:
        yield from _compared(category, data)


def remapped(case: Case, how: str) -> Case:
    """With other grey values in the moving image; see `REMAPS`."""
    return replace(case, name=f"{case.name}, {how}", moving=remapped_image(case.moving, how))


def remapped_image(image: Volume, how: str) -> Volume:
    """Its values, from the lowest to nearly the highest, through one of `REMAPS`, times 1000."""
    image = image.as_float32()
    low, high = _window(image.data)
    x = np.clip((image.data - low) / (high - low), 0, 1)
    return Volume((1000 * REMAPS[how](x)).astype(np.float32), image.grid)


REMAPS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "inverted": lambda x: 1 - x,
    # What is dark is bright, as fluid is, and the outside stays dark.
    "t2": lambda x: (1 - x) * np.minimum(1, x / 0.1),
    # One and a half waves.
    "sine": lambda x: 0.5 + 0.5 * np.sin(3 * np.pi * x),
}


def _window(values: np.ndarray) -> tuple[float, float]:
    """From the lowest value to the 99.5th percentile of what lies above it."""
    low = float(values.min())
    above = values[values > low]
    return low, float(np.percentile(above, 99.5)) if len(above) else low + 1


def _case(line: dict[str, str], data: Path) -> Case:
    fixed, moving = (read_image(data / line[role]) for role in ("fixed", "moving"))
    if "cyc_1_10" in line["moving"]:  # its header says 5 mm between slices; PROVENANCE.md: 4 mm
        moving = Volume(moving.data, Grid(moving.grid.shape, fixed.grid.affine))
    name = f"{Path(line['fixed']).name[:20]} <- {Path(line['moving']).name[:20]}"
    if line["fixed_ref"].endswith(".csv"):
        rows = np.loadtxt(data / line["fixed_ref"], delimiter=",", skiprows=1)
        name += " " + Path(line["fixed_ref"]).stem.rsplit("_", 1)[-1]
        return Case(name, fixed, moving, _tre(rows[:, :3] * LPS, rows[:, 3:6] * LPS))
    labels = (data / line["fixed_ref"], data / line["moving_ref"])
    return Case(name, fixed, moving, _mean_dice(*map(_read_labels, labels)))


def _compared(category: str, data: Path) -> Iterable[Case]:
    """A set of the comparison with others: by its labels, or else by its landmarks."""
    from benchmarks.comparison.more_cases import MORE

    with tempfile.TemporaryDirectory() as made:
        for case in MORE[category](data, Path(made)):
            if case.labels is not None:
                measure = _mean_dice(*map(_read_labels, case.labels))
            else:
                marks = case.landmarks[0]
                measure = _tre(marks.fixed * LPS, marks.moving * LPS)
            yield Case(case.name, read_image(case.fixed), read_image(case.moving), measure)


def read_image(path: Path) -> Volume:
    return read_volume(path, Limits(), "image")


def _read_labels(path: Path) -> Volume:
    return read_label_map(path, Limits(), "labels")


def _mean_dice(fixed: Volume, moving: Volume) -> Measure:
    def measure(affine: Affine, field: DisplacementField) -> float:
        warped = warp_labels(moving, field, fixed.grid, affine=affine)
        scores = dice(fixed, warped)
        present = np.unique(fixed.data)
        return float(np.mean([scores.get(int(label), 0.0) for label in present[present > 0]]))

    return measure


def _tre(here: np.ndarray, there: np.ndarray) -> Measure:
    """Mean distance over landmark pairs, RAS+ mm."""

    def measure(affine: Affine, field: DisplacementField) -> float:
        moved = affine.move(field.move(here))
        return float(np.linalg.norm(moved - there, axis=1).mean())

    return measure


def _mr_ct(folder: Path) -> Iterator[Case]:
    for head in deformed_heads(folder):
        measure = undoing(head.here, head.there, head.known)
        yield Case(head.name, head.fixed, head.moving, measure)


@dataclass(frozen=True)
class Deformed:
    """A pair whose moving image is deformed by `known`.

    `here` are points of the fixed image, `there` the same in the undeformed moving one, world mm;
    a point of the deformed image shows `known.move` of it.
    """

    name: str
    fixed: Volume
    moving: Volume
    here: np.ndarray
    there: np.ndarray
    known: DisplacementField


def deformed_heads(folder: Path) -> Iterator[Deformed]:
    """The truth is the service's own rigid alignment of the undeformed pair, and the field."""
    ct, mr = (read_image(folder / f"pat002_{kind}_conv.nii.gz") for kind in ("ct", "mr_T2"))
    for name, fixed, moving, head in (("ct<-mr", ct, mr, HEAD_HU), ("mr<-ct", mr, ct, HEAD_MR)):
        rigid = initialise(fixed, moving, "rigid")
        here = _inside(fixed, head)
        there = rigid.move(here)
        for seed in SEEDS:
            known = known_field(moving.grid, seed)
            deformed = warp(moving, known, moving.grid, fill=float(moving.data.min()))
            yield Deformed(f"{name}, field {seed}", fixed, deformed, here, there, known)


def _inside(image: Volume, threshold: float) -> np.ndarray:
    """Points of a lattice that are brighter, world mm."""
    index = np.argwhere(image.data > threshold)
    index = index[(index % POINTS_STEP == 0).all(axis=1)]
    places: np.ndarray = image.grid.to_world(index)
    return places


def known_field(grid: Grid, seed: int) -> DisplacementField:
    """Smoothed noise on a coarse grid, its longest displacement `LARGEST_MM`."""
    coarse = grid.resampled(8.0)
    rng = np.random.default_rng(seed)
    knots = tuple(int(n) for n in np.ceil(coarse.extent_mm / KNOTS_MM) + 1)
    at = coarse.extent_mm / (np.array(knots) - 1)
    affine = coarse.affine.copy()
    affine[:3, :3] = coarse.directions * at
    noise = DisplacementField(
        rng.standard_normal((*knots, 3)).astype(np.float32), Grid(knots, affine)
    )
    index = np.moveaxis(np.indices(coarse.shape), 0, -1).reshape(-1, 3)
    vectors = noise.at(coarse.to_world(index)).reshape(*coarse.shape, 3)
    for axis in range(3):
        vectors = _softened(vectors, axis)
    longest = np.linalg.norm(vectors, axis=-1).max()
    return DisplacementField((vectors * (LARGEST_MM / longest)).astype(np.float32), coarse)


def _softened(vectors: np.ndarray, axis: int) -> np.ndarray:
    """A mean of three neighbours, twice, along one axis, which rounds off the knots."""
    for _ in range(2):
        ahead, behind = (np.roll(vectors, shift, axis) for shift in (1, -1))
        first, last = [slice(None)] * 4, [slice(None)] * 4
        first[axis], last[axis] = slice(0, 1), slice(-1, None)
        ahead[tuple(first)], behind[tuple(last)] = vectors[tuple(first)], vectors[tuple(last)]
        vectors = (ahead + vectors + behind) / 3
    return vectors


def undoing(here: np.ndarray, there: np.ndarray, known: DisplacementField) -> Measure:
    """Mean distance in the undeformed image: a point of the deformed one shows known.move of it."""

    def measure(affine: Affine, field: DisplacementField) -> float:
        seen = known.move(affine.move(field.move(here)))
        return float(np.linalg.norm(seen - there, axis=1).mean())

    return measure
