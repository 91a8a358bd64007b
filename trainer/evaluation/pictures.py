"""Pictures of one pair for the page: before and after, with and without outlines of labels."""

from pathlib import Path

import numpy as np

from service.registration.files.affine_text import read_affine
from service.registration.files.field_file import read_field
from service.registration.files.limits import Limits
from service.registration.files.volume_file import read_label_map, read_volume
from service.registration.pictures import Scene, draw_pictures
from service.registration.regularity import regularity
from service.registration.resample import resample, warp_labels
from service.registration.volume import Volume
from trainer.evaluation.cases import EvaluationCase, Opened, open_case
from trainer.evaluation.measures import union_map

SHOWN = {
    "overlay_after": "After",
    "overlay_before": "Before",
    "labels_after": "Labels after",
    "labels_before": "Labels before",
}


def draw_case(case: EvaluationCase, folder: Path) -> dict[str, bytes]:
    """PNGs by title, from what was delivered into a folder."""
    opened, limits = open_case(case, folder / "inputs"), Limits()
    fixed, moving = (read_volume(opened.files[role], limits) for role in ("fixed", "moving"))
    ddf = read_field(folder / "ddf.nii.gz", limits)
    labels = _labels(opened, folder)
    scene = Scene(
        fixed=fixed,
        before=resample(moving, fixed.grid).data,
        warped=read_volume(folder / "warped.nii.gz", limits).data,
        displacement_mm=ddf.vectors_mm,
        jacobian=lambda: regularity(ddf).determinants.data,
        affine=read_affine(folder / "affine.txt").matrix,
        **labels,
    )
    drawn = draw_pictures(scene).png
    return {title: drawn[name] for name, title in SHOWN.items() if name in drawn}


def _labels(opened: Opened, folder: Path) -> dict[str, np.ndarray]:
    """Labels that overlap are shown as one map."""
    if opened.fixed_labels is None or opened.moving_labels is None:
        return {}
    fixed, moving = union_map(opened.fixed_labels), union_map(opened.moving_labels)
    return {
        "fixed_labels": fixed.data,
        "labels_before": resample(moving, fixed.grid, interpolation="nearest").data,
        "warped_labels": _warped(moving, folder).data,
    }


def _warped(moving: Volume, folder: Path) -> Volume:
    delivered = folder / "warped_labels.nii.gz"
    if delivered.is_file():
        return read_label_map(delivered, Limits())
    return warp_labels(moving, read_field(folder / "ddf.nii.gz", Limits()))
