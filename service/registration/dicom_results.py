"""A result as DICOM, where both images came as DICOM: which files, and what makes them."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from service.registration.pair import Pair
from service.registration.products import Products
from service.registration.report import Metrics, ModelUsed, Provenance, VerdictReport

Writers = dict[str, Callable[[Path], None]]

WARPED, LABELS = "warped_dicom.zip", "warped_labels.seg.dcm"
SPATIAL, DEFORMABLE, FIGURES = "affine.reg.dcm", "ddf.reg.dcm", "report.sr.dcm"


def dicom_writers(
    pair: Pair,
    products: Products,
    metrics: Metrics,
    verdict: VerdictReport,
    made: tuple[Provenance, ModelUsed],
    *,
    key: bytes | None = None,
) -> Writers:
    """What to write, by file name; nothing unless both images came as DICOM.

    Args:
        pair: With the origins of its images.
        products: What is written.
        metrics: For the structured report.
        verdict: The same.
        made: How it was made.
        key: Takes the patient out of the objects, and gives them other UIDs.
    """
    if pair.fixed_origin is None or pair.moving_origin is None:
        return {}
    from service.registration.files.dicom.objects import writing
    from service.registration.files.dicom.origin import Origin

    origins = Origin.from_json(pair.fixed_origin), Origin.from_json(pair.moving_origin)
    context = writing.context_of(*origins, seed=_seed(made, products, metrics, verdict), key=key)
    writers: Writers = {
        WARPED: lambda path: writing.write_warped(path, context, products.warped),
        SPATIAL: lambda path: writing.write_spatial(path, context, products.affine),
        DEFORMABLE: lambda path: writing.write_deformable(path, context, products.ddf),
        FIGURES: lambda path: writing.write_figures(
            path, context, metrics.model_dump(), verdict.status, verdict.reasons
        ),
    }
    labels = products.warped_labels
    if labels is not None and labels.data.any():
        writers[LABELS] = lambda path: writing.write_labels(path, context, labels)
    return writers


def _seed(
    made: tuple[Provenance, ModelUsed],
    products: Products,
    metrics: Metrics,
    verdict: VerdictReport,
) -> str:
    """What UIDs are made of: how it was made, and what came out.

    So the same result has the same UIDs, which an archive keeps once, and no UID ever stands for
    two objects that differ: not where a time budget, a processor or a version gave other numbers.
    """
    provenance, model = made
    told = [provenance.inputs, provenance.settings, model.sha256, provenance.software]
    told += [metrics.model_dump(), verdict.model_dump()]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(products.affine.matrix).data)
    for data in (products.warped.data, products.ddf.vectors_mm):
        digest.update(np.ascontiguousarray(data).data)
    if products.warped_labels is not None:
        digest.update(np.ascontiguousarray(products.warped_labels.data).data)
    return digest.hexdigest()
