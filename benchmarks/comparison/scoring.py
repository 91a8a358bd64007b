"""How good a registration is: the same code for every system, numpy and nibabel only."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from benchmarks.comparison.cases import Case


class NothingToScoreError(Exception):
    """What a system left cannot be measured."""


def measures(case: Case, answer: dict[str, Any]) -> dict[str, float]:
    """Mean Dice, and for each list of landmarks the mean distance in mm; what there is of both.

    Raises:
        NothingToScoreError: If the labels are missing, damaged or not on the fixed grid, or a
            point is not finite.
    """
    found = {}
    if case.labels is not None and answer["labels"] is not None:
        found["Dice"] = mean_dice(case.labels[0], Path(answer["labels"]))
    for landmarks, moved in zip(case.landmarks, answer["points"] or [], strict=False):
        found[landmarks.measure] = mean_distance(np.array(moved), landmarks.moving)
    return found


def mean_dice(fixed_labels: Path, warped_labels: Path) -> float:
    """Mean over the labels of the fixed image but 0; a label that was lost counts as 0."""
    fixed, warped = (_labels(path) for path in (fixed_labels, warped_labels))
    if fixed.shape != warped.shape:
        raise NothingToScoreError("The warped labels are not on the fixed grid.")
    size = int(max(fixed.max(), warped.max())) + 1
    both = np.bincount(fixed[fixed == warped], minlength=size)
    sizes = np.bincount(fixed.ravel(), minlength=size) + np.bincount(warped.ravel(), minlength=size)
    labels = [label for label in np.unique(fixed) if label != 0]
    return float(np.mean([2 * both[label] / sizes[label] for label in labels]))


def mean_distance(here: np.ndarray, there: np.ndarray) -> float:
    """Mean Euclidean distance of points in the order given."""
    if here.shape != there.shape or not np.isfinite(here).all():
        raise NothingToScoreError("Points were lost.")
    return float(np.linalg.norm(here - there, axis=1).mean())


def _labels(path: Path) -> np.ndarray:
    try:
        values = np.asanyarray(nibabel.load(path).dataobj)
    except (OSError, EOFError, nibabel.filebasedimages.ImageFileError) as fault:
        raise NothingToScoreError(f"Labels cannot be read: {fault}") from None
    if not np.isfinite(values).all() or values.min() < 0:
        raise NothingToScoreError("A label is negative or no number.")
    data = np.rint(values).astype(np.int64)
    return np.squeeze(data)
