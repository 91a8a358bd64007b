"""Figures of one registration: how alike the pair is, before and after, and how sane the field."""

import math
from concurrent.futures import Future
from dataclasses import fields

import numpy as np

from service.registration.alignment import Alignment
from service.registration.baseline import Baseline
from service.registration.evidence import Evidence
from service.registration.fields import Affine
from service.registration.figures import Figures, by_name, of_image, of_labels
from service.registration.label_metrics import hd95_mm, label_volume_change
from service.registration.metrics import tre_mm
from service.registration.pair import Pair
from service.registration.points import WorldPoints
from service.registration.products import Products
from service.registration.progress import Watch
from service.registration.regularity import (
    Regularity,
    inverse_consistency_mm,
    max_displacement_mm,
    overlap_fraction,
)
from service.registration.report import Metrics
from service.registration.volume import Volume


def measure(
    baseline: Baseline,
    alignment: Alignment,
    products: Products,
    shape: Future[Regularity],
    watch: Watch,
) -> Metrics:
    """Measure what is delivered, beside what the pair was before its deformation.

    Args:
        baseline: The pair, and what is known of it.
        alignment: What was found.
        products: What is delivered.
        shape: The regularity of the delivered field, once it is known.
        watch: Told how far it is.
    """
    pair = baseline.pair
    figures: Figures = {
        "overlap_fraction": overlap_fraction(products.ddf, pair.moving.grid),
        "inverse_consistency_mm": inverse_consistency_mm(products.ddf, products.inverse_ddf),
        "max_deformation_mm": max_displacement_mm(alignment.field),
    }
    watch("measure", 0.2)
    warped = baseline.seen(products.warped)
    figures |= of_image(baseline.fixed, warped, "after")
    watch("measure", 0.4)
    figures |= _of_labels(pair.fixed_labels, pair.moving_labels, products.warped_labels)
    figures |= _of_points(pair.fixed_points, pair.moving_points, products.points, pair)
    watch("measure", 0.6)
    figures |= baseline.figures
    bends = shape.result()
    figures |= {
        "folding_fraction": bends.folding_fraction,
        "non_diffeomorphic_volume": bends.non_diffeomorphic_volume,
        "sdlogj": bends.sdlogj,
        "max_displacement_mm": bends.longest_mm,
    }
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


def _of_labels(fixed: Volume | None, moving: Volume | None, after: Volume | None) -> Figures:
    if moving is None or after is None:
        return {}
    figures: Figures = {"label_volume_change": by_name(label_volume_change(after, moving))}
    if fixed is not None:
        figures |= of_labels(fixed, after, "after")
        figures["hd95_mm_after"] = by_name(hd95_mm(fixed, after))
    return figures


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


def _measurable(
    value: float | dict[str, float] | None,
) -> float | dict[str, float] | None:
    """JSON has no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
