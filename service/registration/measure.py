"""Figures of one registration: how alike the pair is, before and after, and how sane the field."""

import math
from dataclasses import fields

import numpy as np

from service.registration.alignment import Alignment
from service.registration.evidence import Evidence
from service.registration.fields import Affine
from service.registration.label_metrics import dice, hd95_mm, label_volume_change
from service.registration.metrics import lncc, ncc, nmi, tre_mm
from service.registration.pair import Pair
from service.registration.plausibility import plausibility
from service.registration.points import WorldPoints
from service.registration.prepared import COMPARED_VOXELS
from service.registration.products import Products
from service.registration.progress import Watch
from service.registration.regularity import (
    Regularity,
    inverse_consistency_mm,
    max_displacement_mm,
    overlap_fraction,
)
from service.registration.report import Metrics
from service.registration.resample import downsample, resample
from service.registration.volume import Volume

Figures = dict[str, float | dict[str, float] | None]


def measure(
    pair: Pair, alignment: Alignment, products: Products, shape: Regularity, watch: Watch
) -> Metrics:
    """Measure what is delivered. `shape` is the regularity of the delivered field."""
    figures: Figures = {
        "folding_fraction": shape.folding_fraction,
        "non_diffeomorphic_volume": shape.non_diffeomorphic_volume,
        "sdlogj": shape.sdlogj,
        "overlap_fraction": overlap_fraction(products.ddf, pair.moving.grid),
        "inverse_consistency_mm": inverse_consistency_mm(products.ddf, products.inverse_ddf),
        "max_displacement_mm": shape.longest_mm,
        "max_deformation_mm": max_displacement_mm(alignment.field),
    }
    watch("measure", 0.2)
    figures |= _of_images(pair, products, alignment.affine)
    watch("measure", 0.6)
    figures |= _of_labels(pair.fixed_labels, pair.moving_labels, products)
    figures |= _of_points(pair.fixed_points, pair.moving_points, products.points, pair)
    return Metrics.model_validate({name: _measurable(value) for name, value in figures.items()})


def evidence(metrics: Metrics, pair: Pair, affine: Affine) -> Evidence:
    """What the verdict is judged on."""
    known = metrics.model_dump(include={part.name for part in fields(Evidence)})
    return Evidence(
        **known,
        field_of_view_mm=float(pair.fixed.grid.extent_mm.max()),
        affine_volume_change=float(np.linalg.det(affine.matrix[:3, :3])),
        affine_scales=scales(pair.initial, affine),
    )


def scales(initial: Affine, affine: Affine) -> tuple[float, float]:
    """The least and the most that the affine stretches a direction, beyond what was given."""
    found = initial.inverse() @ affine
    stretched = np.linalg.svd(found.matrix[:3, :3], compute_uv=False)
    return float(stretched[-1]), float(stretched[0])


def _of_images(pair: Pair, products: Products, affine: Affine) -> Figures:
    """NCC on every voxel; LNCC, NMI and what the affine alone tells on coarse copies."""
    grid = pair.fixed.grid.coarsened(COMPARED_VOXELS)
    whole = pair.fixed_tempering.apply(pair.fixed)
    fixed = downsample(whole, grid)
    mask = pair.fixed_mask
    coarse_mask = None if mask is None else resample(mask, grid, interpolation="nearest")
    figures: Figures = {**plausibility(pair, fixed, coarse_mask, affine)}
    for when, image in (("before", products.before), ("after", products.warped)):
        seen = pair.moving_tempering.apply(image)
        coarse = downsample(seen, grid)
        figures[f"ncc_{when}"] = ncc(whole, seen, mask)
        figures[f"lncc_{when}"] = lncc(fixed, coarse, coarse_mask)
        figures[f"nmi_{when}"] = nmi(fixed, coarse, coarse_mask)
    return figures


def _of_labels(fixed: Volume | None, moving: Volume | None, products: Products) -> Figures:
    before, after = products.labels_before, products.warped_labels
    if moving is None or after is None:
        return {}
    figures: Figures = {"label_volume_change": _named(label_volume_change(after, moving))}
    if fixed is not None and before is not None:
        for when, labels in (("before", before), ("after", after)):
            overlaps = _of_fixed(dice(fixed, labels), fixed)
            figures[f"dice_{when}"] = _named(overlaps)
            figures[f"mean_dice_{when}"] = float(np.mean(list(overlaps.values() or [math.nan])))
        figures["hd95_mm_after"] = _named(hd95_mm(fixed, after))
    return figures


def _of_fixed(overlaps: dict[int, float], fixed: Volume) -> dict[int, float]:
    """Only labels that the fixed map has: the others have nothing to overlap with."""
    present = set(np.flatnonzero(np.bincount(fixed.data.ravel())).tolist())
    return {label: value for label, value in overlaps.items() if label in present}


def _of_points(
    fixed: WorldPoints | None, moving: WorldPoints | None, moved: WorldPoints | None, pair: Pair
) -> Figures:
    if fixed is None or moving is None or moved is None:
        return {}
    before = tre_mm(fixed.moved(pair.initial), moving)
    return {
        "tre_mm_before": float(before.mean()),
        "tre_mm_after": float(tre_mm(moved, moving).mean()),
    }


def _named(by_label: dict[int, float]) -> dict[str, float]:
    return {str(label): value for label, value in by_label.items() if math.isfinite(value)}


def _measurable(
    value: float | dict[str, float] | None,
) -> float | dict[str, float] | None:
    """JSON has no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
