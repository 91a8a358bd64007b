"""The warped image as a derived series, in the fixed image's frame of reference.

Source: DICOM PS3.3 C.7.6.1.1.2 (image type), C.7.6.1.1.3 (derivation), C.7.6.2 (image plane),
C.11.1 (rescale), C.12.1.1.5 (contributing equipment).
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any, Final

import numpy as np
from pydicom import Dataset, FileDataset
from pydicom.sequence import Sequence

from service.registration.files.dicom.objects.starting import (
    MANUFACTURER,
    SERIES_NUMBER,
    Context,
    Kind,
    code,
    instance_items,
    laterality,
    lps,
    refer,
    started,
)
from service.registration.volume import Volume

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
CLASSES: Final[dict[str, str]] = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
}
# What an image of a modality must say, and takes from the moving one; what stands for it, if that
# does not say. None: present and empty.
OWED: Final[dict[str, dict[str, Any]]] = {
    "CT": {"KVP": None, "AcquisitionNumber": None},
    "MR": {
        "ScanningSequence": "RM",
        "SequenceVariant": "NONE",
        "ScanOptions": None,
        "MRAcquisitionType": None,
        "RepetitionTime": None,
        "EchoTime": None,
        "EchoTrainLength": None,
    },
    "PT": {
        "Units": "NONE",
        "CountsSource": "EMISSION",
        "SeriesType": ["WHOLE BODY", "IMAGE"],
        "DecayCorrection": "NONE",
        "CollimatorType": "NONE",
        "CorrectedImage": None,
        "FrameReferenceTime": 0,
        "RadiopharmaceuticalInformationSequence": Sequence(),
        "ActualFrameDuration": None,
        "DecayFactor": 1,
        "AcquisitionDate": None,
        "AcquisitionTime": None,
        "PatientOrientationCodeSequence": Sequence(),
        "PatientGantryRelationshipCodeSequence": Sequence(),
    },
}
SHARED = ("BodyPartExamined", "PatientPosition", "RescaleType", "WindowCenter", "WindowWidth")
SERIES = Kind(SECONDARY_CAPTURE, "OT", "warped", "Registered image", SERIES_NUMBER)


def derived_series(context: Context, warped: Volume) -> Iterator[FileDataset]:
    """One object for each slice of the fixed grid.

    Args:
        context: The registration.
        warped: The moving image on the fixed grid.
    """
    kind = _kind(context)
    is_pet = kind.modality == "PT"
    stored, slope, intercept = (_through_zero if is_pet else stored_values)(warped.data)
    template = _template(context, kind, warped, stored.dtype, slope, intercept)
    for k in range(warped.grid.shape[2]):
        made = started(context, kind, k + 1)
        made.update(template)
        made.ImagePositionPatient = lps(warped.grid.to_world(np.array([0.0, 0.0, k])))
        if is_pet:
            made.ImageIndex = k + 1
        made.PixelData = np.ascontiguousarray(stored[:, :, k].T).tobytes()
        yield made


def stored_values(data: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Whole numbers of 16 bits, and the slope and intercept that give the values back.

    Integers that fit stay as they are; all others are spread over 65,536 steps.
    """
    low, high = float(data.min()), float(data.max())
    if data.dtype.kind in "iu":
        if low >= -32768 and high <= 32767:
            return data.astype("<i2"), 1.0, 0.0
        if low >= 0 and high <= 65535:
            return data.astype("<u2"), 1.0, 0.0
    slope = float(f"{max(high - low, 1e-6) / 65535:.8g}")
    intercept = float(f"{low:.8g}")
    steps = np.rint((data.astype(np.float64) - intercept) / slope)
    return np.clip(steps, 0, 65535).astype("<u2"), slope, intercept


def _through_zero(data: np.ndarray) -> tuple[np.ndarray, float, float]:
    """As `stored_values` with the intercept that PET must have, PS3.3 C.8.9.4.1.1."""
    # Of the least integer there is no absolute value in its own type.
    largest = max(abs(float(data.min())), abs(float(data.max())), 1e-6)
    slope = 1.0 if data.dtype.kind in "iu" and largest <= 32767 else float(f"{largest / 32767:.8g}")
    return np.clip(np.rint(data / slope), -32768, 32767).astype("<i2"), slope, 0.0


def _kind(context: Context) -> Kind:
    """An image of the moving image's modality, where there is a class of single slices for it."""
    modality = str(context.moving.header.get("Modality", "OT"))
    sop_class = CLASSES.get(modality, SECONDARY_CAPTURE)
    return replace(SERIES, sop_class=sop_class, modality=modality)


def _template(
    context: Context,
    kind: Kind,
    warped: Volume,
    dtype: np.dtype[Any],
    slope: float,
    intercept: float,
) -> Dataset:
    """What all slices have in common."""
    made = Dataset()
    _derivation(made, context)
    _acquisition(made, context, kind, warped.grid.shape[2])
    _plane(made, warped)
    if "BodyPartExamined" not in made:
        laterality(made, context)
    made.SamplesPerPixel = 1
    photometric = str(context.moving.header.get("PhotometricInterpretation", ""))
    made.PhotometricInterpretation = (
        photometric if photometric.startswith("MONOCHROME") else "MONOCHROME2"
    )
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit = 15
    made.PixelRepresentation = int(dtype.kind == "i")
    made.RescaleSlope, made.RescaleIntercept = slope, intercept
    if kind.sop_class == SECONDARY_CAPTURE:
        made.ConversionType = "WSD"
    refer(made, context)
    return made


def _derivation(made: Dataset, context: Context) -> None:
    made.ImageType = ["DERIVED", "SECONDARY", "REGISTERED"]
    if str(context.moving.header.get("Modality")) == "CT":
        made.ImageType = ["DERIVED", "SECONDARY", "AXIAL", "REGISTERED"]
    made.DerivationDescription = "Resampled to another series by deformable registration"
    made.DerivationCodeSequence = Sequence([code("113069", "DCM", "Resampled")])
    made.SourceImageSequence = instance_items(context.moving)
    for item in made.SourceImageSequence:
        item.PurposeOfReferenceCodeSequence = Sequence(
            [code("121322", "DCM", "Source image for image processing operation")]
        )
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = Sequence(
        [code("109102", "DCM", "Processing Equipment")]
    )
    equipment.Manufacturer = MANUFACTURER
    equipment.ContributionDescription = "Image registration"
    made.ContributingEquipmentSequence = Sequence([equipment])


def _acquisition(made: Dataset, context: Context, kind: Kind, slices: int) -> None:
    moving = context.moving.header
    for keyword in SHARED:
        if keyword in moving:
            made[keyword] = moving[keyword]
    if kind.sop_class == SECONDARY_CAPTURE:
        return
    if "PatientPosition" not in made:
        made.PatientPosition = None  # type 2C of these modalities
    for keyword, otherwise in OWED[kind.modality].items():
        if keyword in moving:
            made[keyword] = moving[keyword]
        else:
            setattr(made, keyword, otherwise)
    if kind.modality == "PT":
        _pet_series(made, context, slices)


def _pet_series(made: Dataset, context: Context, slices: int) -> None:
    """What a series of PET must say, PS3.3 C.8.9.1 and C.8.9.2."""
    made.ImageType = ["DERIVED", "PRIMARY"]
    made.SeriesDate, made.SeriesTime = context.stamp
    made.NumberOfSlices = slices
    made.pop("PatientPosition", None)  # the codes of the orientation stand for it
    drugs = deepcopy(made.RadiopharmaceuticalInformationSequence)
    for drug in drugs:
        if "RadionuclideCodeSequence" not in drug:
            drug.RadionuclideCodeSequence = Sequence()
    made.RadiopharmaceuticalInformationSequence = drugs


def _plane(made: Dataset, warped: Volume) -> None:
    spacing, directions = warped.grid.spacing_mm, warped.grid.directions
    made.Rows, made.Columns = warped.grid.shape[1], warped.grid.shape[0]
    made.PixelSpacing = [float(f"{spacing[1]:.9g}"), float(f"{spacing[0]:.9g}")]
    made.ImageOrientationPatient = [*lps(directions[:, 0]), *lps(directions[:, 1])]
    made.SliceThickness = float(f"{spacing[2]:.9g}")
    made.SpacingBetweenSlices = float(f"{spacing[2]:.9g}")
