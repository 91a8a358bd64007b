"""Everything that a registration of two DICOM series gives back as DICOM."""

import zipfile
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

from pydicom import Dataset

from service.registration.fields import Affine, DisplacementField
from service.registration.files.dicom.objects.deidentify import Deidentifier
from service.registration.files.dicom.objects.derived import derived_series
from service.registration.files.dicom.objects.figures import figures_report
from service.registration.files.dicom.objects.segmentation import segmentation
from service.registration.files.dicom.objects.starting import Context
from service.registration.files.dicom.objects.transforms import (
    deformable_registration,
    spatial_registration,
)
from service.registration.files.dicom.objects.uids import Uids
from service.registration.files.dicom.origin import Origin
from service.registration.volume import Volume

EPOCH = (1980, 1, 1, 0, 0, 0)


def context_of(fixed: Origin, moving: Origin, seed: str, key: bytes | None = None) -> Context:
    """The registration as its objects see it.

    Args:
        fixed: Where the fixed image comes from.
        moving: The same of the moving one.
        seed: Of the UIDs.
        key: The patient is taken out, and new UIDs are made with it; see deidentify.py.
    """
    return Context(fixed, moving, Uids(seed), key)


def write_warped(path: Path, context: Context, warped: Volume) -> None:
    """The derived series, a file for each slice, in a zip without compression."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for made in derived_series(context, warped):
            name = zipfile.ZipInfo(f"{made.InstanceNumber:06d}.dcm", EPOCH)
            archive.writestr(name, bytes_of(made, context))


def write_labels(path: Path, context: Context, labels: Volume) -> None:
    """The segmentation; an empty file is never written: labels without a label give none."""
    if (made := segmentation(context, labels)) is not None:
        path.write_bytes(bytes_of(made, context))


def write_spatial(path: Path, context: Context, affine: Affine) -> None:
    path.write_bytes(bytes_of(spatial_registration(context, affine), context))


def write_deformable(path: Path, context: Context, ddf: DisplacementField) -> None:
    path.write_bytes(bytes_of(deformable_registration(context, ddf), context))


def write_figures(
    path: Path,
    context: Context,
    metrics: Mapping[str, float | None],
    verdict: str,
    reasons: Sequence[str],
) -> None:
    made = figures_report(context, metrics, verdict, iter(reasons))
    path.write_bytes(bytes_of(made, context))


def bytes_of(made: Dataset, context: Context) -> bytes:
    """The object as a file, without the patient where that is wanted."""
    if context.deidentification_key is not None:
        made = Deidentifier(context.deidentification_key).without_patient(made)
    buffer = BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
