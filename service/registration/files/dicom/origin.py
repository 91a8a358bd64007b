"""Where a DICOM volume comes from: what objects that are made of it must say about it.

This holds the patient's data. It stays in memory and in the objects that are written: it has no
`repr`, is in no report and in no log.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydicom import Dataset

from service.errors import PatientMismatchError
from service.registration.files.dicom.stacks import Stack

# Modules that a derived object shares with its source: patient, study, frame of reference, and
# what an image of the modality must say about its acquisition.
PATIENT = (
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex",
    "PatientAge", "PatientSize", "PatientWeight", "PatientIdentityRemoved",
    "DeidentificationMethod", "DeidentificationMethodCodeSequence",
)  # fmt: skip
STUDY = (
    "StudyInstanceUID", "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID",
    "AccessionNumber", "StudyDescription",
)  # fmt: skip
FRAME_OF_REFERENCE = ("FrameOfReferenceUID", "PositionReferenceIndicator")
ACQUISITION = (
    "SpecificCharacterSet", "SOPClassUID", "Modality", "SeriesInstanceUID", "SeriesNumber",
    "SeriesDescription", "BodyPartExamined", "Laterality", "PatientPosition", "ScanningSequence",
    "SequenceVariant", "ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime",
    "EchoTrainLength", "InversionTime", "MagneticFieldStrength", "FlipAngle", "KVP",
    "AcquisitionNumber", "ConvolutionKernel", "ContrastBolusAgent", "RescaleType", "WindowCenter",
    "WindowWidth", "PhotometricInterpretation", "Units", "CountsSource", "SeriesType",
    "NumberOfSlices", "DecayCorrection", "CollimatorType", "CorrectedImage", "FrameReferenceTime",
    "RandomsCorrectionMethod", "AttenuationCorrectionMethod", "ScatterCorrectionMethod",
    "RadiopharmaceuticalInformationSequence", "SliceThickness", "Manufacturer", "Rows", "Columns",
    "PixelSpacing", "ImageOrientationPatient", "BitsAllocated", "BitsStored",
)  # fmt: skip
COPIED = (*PATIENT, *STUDY, *FRAME_OF_REFERENCE, *ACQUISITION)


@dataclass(frozen=True)
class Instance:
    """One object of a series."""

    sop_class: str
    uid: str
    frames: int  # 1 for an image of one frame
    position: tuple[float, float, float]


@dataclass(frozen=True, repr=False, eq=False)
class Origin:
    """The series that a volume was read from.

    `header` holds the attributes of COPIED, from the first instance.
    """

    header: Dataset = field(repr=False)
    instances: tuple[Instance, ...]

    @property
    def study_uid(self) -> str:
        return str(self.header.get("StudyInstanceUID", ""))

    @property
    def series_uid(self) -> str:
        return str(self.header.get("SeriesInstanceUID", ""))

    @property
    def frame_of_reference_uid(self) -> str:
        return str(self.header.get("FrameOfReferenceUID", ""))

    def to_json(self) -> dict[str, Any]:
        """For the way between processes of one machine."""
        return {
            "header": self.header.to_json_dict(),
            "instances": [
                [one.sop_class, one.uid, one.frames, list(one.position)] for one in self.instances
            ],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Origin":
        """The other end of it."""
        return cls(
            Dataset.from_json(dict(data["header"])),
            tuple(
                Instance(sop_class, uid, frames, tuple(position))
                for sop_class, uid, frames, position in data["instances"]
            ),
        )


def origin_of(stack: Stack, headers: Sequence[Any]) -> Origin:
    """The origin of a stack.

    Args:
        stack: The frames of the volume.
        headers: The data set of each file, without pixels, by its place in the list of files.
    """
    used = dict.fromkeys(frame.file for frame in stack.frames)
    first = headers[stack.first.file]
    header = Dataset()
    for keyword in COPIED:
        if keyword in first:
            header[keyword] = first[keyword]
    positions = {frame.file: frame.position for frame in reversed(stack.frames)}
    instances = tuple(
        Instance(
            str(headers[file].get("SOPClassUID", "")),
            str(headers[file].get("SOPInstanceUID", "")),
            int(headers[file].get("NumberOfFrames") or 1),
            positions[file],
        )
        for file in used
    )
    return Origin(header, instances)


def require_same_patient(fixed: Origin, moving: Origin) -> None:
    """Refuse two images that say that they are of different patients.

    The patient's ID decides, with its issuer where both tell one. Images without an ID are compared
    by name and birth date; what is empty in one of them says nothing.

    Raises:
        PatientMismatchError: If they are. It says no more than that.
    """
    if _differ(fixed.header, moving.header):
        raise PatientMismatchError(
            "The two series say that they are of different patients. If that is meant, as in a "
            "study of a cohort, allow it with `allow_different_patients`.",
            field="moving",
        )


def _differ(fixed: Dataset, moving: Dataset) -> bool:
    ids = _digest(fixed, "PatientID"), _digest(moving, "PatientID")
    issuers = _digest(fixed, "IssuerOfPatientID"), _digest(moving, "IssuerOfPatientID")
    if all(ids) and (issuers[0] == issuers[1] or not all(issuers)):
        return ids[0] != ids[1]
    names = _digest(fixed, "PatientName"), _digest(moving, "PatientName")
    births = _digest(fixed, "PatientBirthDate"), _digest(moving, "PatientBirthDate")
    return any(all(pair) and pair[0] != pair[1] for pair in (names, births))


def _digest(header: Dataset, keyword: str) -> bytes:
    """Compared instead of the text, so that the text is in no traceback; empty if there is none."""
    text = str(header.get(keyword) or "").strip(" ^").casefold()
    return hashlib.sha256(text.encode()).digest() if text else b""
