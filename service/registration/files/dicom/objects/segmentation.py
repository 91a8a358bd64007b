"""Warped labels as a segmentation of the fixed image.

Source: DICOM PS3.3 A.51 (Segmentation); highdicom writes it.
"""

import warnings
from collections.abc import Callable

import numpy as np
from highdicom import (
    AlgorithmIdentificationSequence,
    PixelMeasuresSequence,
    PlaneOrientationSequence,
    PlanePositionSequence,
)
from highdicom.seg import (
    SegmentAlgorithmTypeValues,
    Segmentation,
    SegmentationTypeValues,
    SegmentDescription,
)
from highdicom.sr import CodedConcept
from pydicom import DataElement, Dataset

from service.registration.files.dicom.objects.starting import (
    MANUFACTURER,
    SERIES_NUMBER,
    Context,
    Kind,
    lps,
    refer,
    started,
)
from service.registration.volume import Volume

SEGMENTATION = Kind(
    "1.2.840.10008.5.1.4.1.1.66.4",
    "SEG",
    "labels",
    "Registered labels",
    SERIES_NUMBER + 1,
)
# A class of single slices: of images with several frames highdicom wants to see every frame.
STAND_IN = "1.2.840.10008.5.1.4.1.1.4"
TISSUE = CodedConcept("85756007", "SCT", "Tissue")
REGISTRATION = CodedConcept("113069", "DCM", "Resampled")


def segmentation(context: Context, labels: Volume) -> Dataset | None:
    """One binary segment for each label, as older viewers read them; None if there is no label.

    Segments have the number of their label in their name: what a label stands for, the service is
    not told.

    Args:
        context: The registration.
        labels: The moving labels on the fixed grid, 0 for the background.
    """
    present = [int(label) for label in np.unique(labels.data) if label]
    if not present:
        return None
    frames = np.ascontiguousarray(labels.data.transpose(2, 1, 0))
    numbered = np.zeros(frames.shape, np.uint16)
    for number, label in enumerate(present, start=1):
        numbered[frames == label] = number
    made = _segmented(context, labels, numbered, present)
    refer(made, context)
    made.walk(_with_class_of(context))
    return made


def _segmented(
    context: Context, labels: Volume, numbered: np.ndarray, present: list[int]
) -> Segmentation:
    start = started(context, SEGMENTATION)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of names with one component, and shows them
        made = _made(context, labels, numbered, present, start)
    _settle(made, start, context)
    return made


def _settle(made: Segmentation, start: Dataset, context: Context) -> None:
    """What highdicom takes from the clock and from chance is the same each time."""
    for keyword in ("SeriesDate", "SeriesTime", "InstanceCreationDate", "InstanceCreationTime"):
        if keyword in made:
            delattr(made, keyword)
    made.ContentDate, made.ContentTime = start.ContentDate, start.ContentTime
    for equipment in made.get("ContributingEquipmentSequence", ()):
        equipment.pop("ContributionDateTime", None)
    organization = context.uids.of(SEGMENTATION.name, "dimensions")
    for item in (*made.DimensionOrganizationSequence, *made.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization


def _made(
    context: Context, labels: Volume, numbered: np.ndarray, present: list[int], start: Dataset
) -> Segmentation:
    return Segmentation(
        source_images=[_source(context, labels)],
        pixel_array=numbered,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[_described(n, label) for n, label in enumerate(present, start=1)],
        series_instance_uid=start.SeriesInstanceUID,
        series_number=start.SeriesNumber,
        sop_instance_uid=start.SOPInstanceUID,
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=start.ManufacturerModelName,
        software_versions=start.SoftwareVersions,
        device_serial_number=start.DeviceSerialNumber,
        series_description=start.SeriesDescription,
        content_label="LABELS",
        content_description="Registered labels",
        plane_positions=_positions(labels),
        plane_orientation=_orientation(labels),
        pixel_measures=_measures(labels),
        omit_empty_frames=True,
    )


def _with_class_of(context: Context) -> Callable[[Dataset, DataElement], None]:
    """Puts the fixed image's class back in references, which STAND_IN stood for."""
    real = context.fixed.instances[0].sop_class

    def put_back(_dataset: Dataset, element: DataElement) -> None:
        if element.keyword == "ReferencedSOPClassUID" and element.value == STAND_IN:
            element.value = real

    return put_back


def _described(number: int, label: int) -> SegmentDescription:
    return SegmentDescription(
        segment_number=number,
        segment_label=f"Label {label}",
        segmented_property_category=TISSUE,
        segmented_property_type=TISSUE,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            name="Warpline", version="1", family=REGISTRATION
        ),
    )


def _source(context: Context, labels: Volume) -> Dataset:
    """What highdicom must know of the fixed image, as if it were a slice in a file of its own."""
    source = Dataset()
    source.update(context.fixed.header)
    first = context.fixed.instances[0]
    source.SOPClassUID, source.SOPInstanceUID = STAND_IN, first.uid
    source.Rows, source.Columns = labels.grid.shape[1], labels.grid.shape[0]
    source.ImagePositionPatient = lps(labels.grid.affine[:3, 3])
    source.ImageOrientationPatient = _orientation_of(labels)
    measures = _measures(labels)[0]
    source.PixelSpacing, source.SliceThickness = measures.PixelSpacing, measures.SliceThickness
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID",
                    "AccessionNumber", "StudyDate", "StudyTime",
                    "ReferringPhysicianName"):  # fmt: skip
        if keyword not in source:
            setattr(source, keyword, None)
    return source


def _orientation_of(labels: Volume) -> list[float]:
    directions = labels.grid.directions
    return [*lps(directions[:, 0]), *lps(directions[:, 1])]


def _orientation(labels: Volume) -> PlaneOrientationSequence:
    return PlaneOrientationSequence("PATIENT", _orientation_of(labels))


def _positions(labels: Volume) -> list[PlanePositionSequence]:
    return [
        PlanePositionSequence("PATIENT", lps(labels.grid.to_world(np.array([0.0, 0.0, float(k)]))))
        for k in range(labels.grid.shape[2])
    ]


def _measures(labels: Volume) -> PixelMeasuresSequence:
    spacing = [float(f"{value:.9g}") for value in labels.grid.spacing_mm]
    return PixelMeasuresSequence(
        pixel_spacing=[spacing[1], spacing[0]],
        slice_thickness=spacing[2],
        spacing_between_slices=spacing[2],
    )
