"""Figures of one pair, by label, before and after: from what the service delivered."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from service.registration.engine import Engine
from service.registration.fields import Affine, DisplacementField
from service.registration.files.affine_text import read_affine
from service.registration.files.field_file import read_field
from service.registration.files.limits import Limits
from service.registration.files.points_file import read_points
from service.registration.files.volume_file import read_label_map, read_volume
from service.registration.initialise import initialise
from service.registration.label_metrics import dice, hd95_mm
from service.registration.metrics import tre_mm
from service.registration.options import InitialiseChoice, Interpolation
from service.registration.report import Report
from service.registration.resample import resample, warp_labels
from service.registration.volume import Volume
from trainer.data.reading import Labels
from trainer.evaluation.cases import Opened

Figures = dict[str, float]

# By column: whether large is good, and what people call it.
BY_LABEL = {
    "dice": (True, "Dice"),
    "hd95_mm": (False, "HD95, mm"),
    "centroid_mm": (False, "Distance of centroids, mm"),
}
BY_PAIR = {
    "tre_mm": (False, "TRE, mm"),
    "ncc": (True, "NCC"),
    "sdlogj": (False, "SDlogJ"),
    "folding_fraction": (False, "Folded voxels, share"),
    "non_diffeomorphic_volume": (False, "Non-diffeomorphic volume, share"),
    "seconds": (False, "Seconds"),
}
METRICS = BY_LABEL | BY_PAIR
# Columns of a metric: as the headers place the pair, after the initial alignment, as delivered.
WHEN = ("_before", "_initial", "")
HALF = 0.5


def initial_affine(opened: Opened, folder: Path, engine: Engine, how: InitialiseChoice) -> Affine:
    """What the pipeline's initial alignment was: the start that a network has to better.

    Delivered in `affine.txt`, but by a network that gives an affine, which is part of that; then
    it is found again.
    """
    if engine.card.output.kind != "affine":
        return read_affine(folder / "affine.txt")
    chosen = engine.card.initialise or "affine" if how == "model" else how
    fixed, moving = (read_volume(opened.files[role], Limits()) for role in ("fixed", "moving"))
    masks = [
        read_label_map(opened.files[role], Limits()) if role in opened.files else None
        for role in ("fixed_mask", "moving_mask")
    ]
    return initialise(fixed, moving, chosen, fixed_mask=masks[0], moving_mask=masks[1])


def label_figures(
    opened: Opened,
    folder: Path,
    engine: Engine,
    initial: Affine,
    chosen: tuple[int, ...] = (),
) -> dict[int, Figures]:
    """Agreement of each label that both images have: `*_before`, `*_initial` and as delivered.

    Dice; the 95th percentile of surface distances; the distance of the centroids, which label-reg
    and DeepReg call TRE. Label maps are carried over by the pipeline, labels of a fourth axis, of
    which each voxel above a half counts, one by one by the field that it delivered, nearest voxel.
    A label that is lost has Dice 0 and nan for the distances.

    Args:
        opened: The pair.
        folder: What the pipeline delivered.
        engine: The model, for one that segments.
        initial: The initial alignment.
        chosen: The labels that count; empty for all.
    """
    fixed, moving = opened.fixed_labels, opened.moving_labels
    if fixed is None or moving is None:
        return {}
    shared = set(fixed.values()) & set(moving.values())
    wanted = sorted(shared & set(chosen) if chosen else shared)
    if fixed.is_map and moving.is_map:
        target, before = _volume(fixed), _volume(moving)
        after = read_label_map(folder / "warped_labels.nii.gz", Limits())
        return _compared(target, (*_placed(before, target, initial), after), wanted)
    figures = {}
    carried = _Carried(opened, folder, engine)
    for label in wanted:
        target, before = _indicator(fixed, label), _indicator(moving, label)
        moved = (*_placed(before, target, initial), carried.over(before))
        figures[label] = _compared(target, moved, [1])[1]
    return figures


def union_map(labels: Labels) -> Volume:
    """Labels as one map; where some overlap, the last one."""
    if labels.is_map:
        return _volume(labels)
    union = np.zeros(labels.grid.shape, np.uint16)
    for n, share in enumerate(labels.data):
        union[share > HALF] = n + 1
    return Volume(union, labels.grid)


def pair_figures(
    report: Report, labels: dict[int, Figures], opened: Opened, initial: Affine
) -> Figures:
    """What the report tells of a pair, and the means over its labels."""
    metrics = report.metrics
    told = {
        "tre_mm_before": metrics.tre_mm_before,
        "tre_mm_initial": _tre_mm(opened, initial),
        "tre_mm": metrics.tre_mm_after,
        "ncc_before": metrics.ncc_before,
        "ncc": metrics.ncc_after,
        "sdlogj": metrics.sdlogj,
        "folding_fraction": metrics.folding_fraction,
        "non_diffeomorphic_volume": metrics.non_diffeomorphic_volume,
        "max_deformation_mm": metrics.max_deformation_mm,
        "seconds": sum(stage.seconds for stage in report.stages),
    }
    figures = {name: math.nan if value is None else value for name, value in told.items()}
    for name in BY_LABEL:
        for column in (f"{name}{when}" for when in WHEN):
            figures[column] = mean_of(figures_of[column] for figures_of in labels.values())
    return figures


def _tre_mm(opened: Opened, initial: Affine) -> float | None:
    if "fixed_points" not in opened.files:
        return None
    fixed, moving = (read_points(opened.files[f"{side}_points"]) for side in ("fixed", "moving"))
    return float(tre_mm(fixed.moved(initial), moving).mean())


def mean_of(values: Iterator[float]) -> float:
    """The mean of those that are known; nan where none is."""
    known = [value for value in values if math.isfinite(value)]
    return float(np.mean(known)) if known else math.nan


class _Carried:
    """Carries labels that may overlap onto the fixed grid, one at a time."""

    def __init__(self, opened: Opened, folder: Path, engine: Engine) -> None:
        self._opened, self._folder, self._engine = opened, folder, engine
        self._segments = engine.card.output.kind == "warped_label"
        self._field: DisplacementField | None = None
        self._seen: tuple[Volume, Volume, Affine] | None = None

    def over(self, label: Volume) -> Volume:
        """The label by the delivered field, or as the network segments it."""
        if not self._segments:
            if self._field is None:
                self._field = read_field(self._folder / "ddf.nii.gz", Limits())
            return warp_labels(label, self._field)
        if self._seen is None:
            files = self._opened.files
            fixed, moving = (read_volume(files[role], Limits()) for role in ("fixed", "moving"))
            self._seen = fixed, moving, read_affine(self._folder / "affine.txt")
        fixed, moving, initial = self._seen
        return self._engine.segment(fixed, moving, label, initial)


def _volume(labels: Labels) -> Volume:
    return Volume(labels.data, labels.grid)


def _indicator(labels: Labels, value: int) -> Volume:
    inside = labels.data == value if labels.is_map else labels.data[value - 1] > HALF
    return Volume(inside.astype(np.uint8), labels.grid)


def _placed(moving: Volume, fixed: Volume, initial: Affine) -> tuple[Volume, Volume]:
    """The moving labels where their header puts them, and the initial alignment."""
    nearest: Interpolation = "nearest"
    return (
        resample(moving, fixed.grid, interpolation=nearest),
        resample(moving, fixed.grid, affine=initial, interpolation=nearest),
    )


def _compared(
    fixed: Volume, moved: tuple[Volume, Volume, Volume], labels: list[int]
) -> dict[int, Figures]:
    """Every figure of each label, against the labels as they were moved so far."""
    found: dict[int, Figures] = {label: {} for label in labels}
    here = _centroids_mm(fixed)
    for ending, volume in zip(WHEN, moved, strict=True):
        overlaps, distances = dice(fixed, volume), hd95_mm(fixed, volume)
        there = _centroids_mm(volume)
        for label, figures in found.items():
            figures[f"dice{ending}"] = overlaps.get(label, math.nan)
            figures[f"hd95_mm{ending}"] = distances.get(label, math.nan)
            known = label in here and label in there
            apart = float(np.linalg.norm(here[label] - there[label])) if known else math.nan
            figures[f"centroid_mm{ending}"] = apart
    return found


def _centroids_mm(labels: Volume) -> dict[int, np.ndarray]:
    """World positions of the middles of all labels."""
    index = np.argwhere(labels.data)
    values = labels.data[labels.data != 0].astype(np.int64)
    counts = np.bincount(values)
    sums = [np.bincount(values, weights=index[:, axis]) for axis in range(3)]
    present = np.flatnonzero(counts)
    middles = np.stack([total[present] / counts[present] for total in sums], axis=-1)
    world = labels.grid.to_world(middles)
    return {int(label): place for label, place in zip(present, world, strict=True)}
