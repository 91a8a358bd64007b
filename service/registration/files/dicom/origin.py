"""Where a DICOM volume comes from: what objects that are made of it must say about it.

This holds the patient's data. It stays in memory and in the objects that are written: it has no
`repr`, is in no report and in no log.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pydicom import Dataset

from service.errors import InvalidDicomError
from service.registration.files.dicom import patient
from service.registration.files.dicom.frames import whole
from service.registration.files.dicom.parsing import parsing
from service.registration.files.dicom.patient import patient_of
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
    "DecayFactor", "ActualFrameDuration",
    "RandomsCorrectionMethod", "AttenuationCorrectionMethod", "ScatterCorrectionMethod",
    "RadiopharmaceuticalInformationSequence", "SliceThickness", "Manufacturer", "Rows", "Columns",
    "PixelSpacing", "ImageOrientationPatient", "BitsAllocated", "BitsStored",
)  # fmt: skip
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID",
        "FrameOfReferenceUID")  # fmt: skip
UID = re.compile(r"[0-9.]{0,64}")
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

    Raises:
        InvalidDicomError: If a UID is none, or what every image has cannot be parsed.
    """
    with parsing():
        used = dict.fromkeys(frame.file for frame in stack.frames)
        for file in used:
            _require_uids(headers[file])
        positions = {frame.file: frame.position for frame in reversed(stack.frames)}
        instances = tuple(
            Instance(
                str(headers[file].get("SOPClassUID", "")),
                str(headers[file].get("SOPInstanceUID", "")),
                whole(headers[file].get("NumberOfFrames"), 1),
                positions[file],
            )
            for file in used
        )
        return Origin(_copied(headers[stack.first.file]), instances)


def _copied(first: Dataset) -> Dataset:
    """The attributes of COPIED; those whose values are none of their type say nothing."""
    header = Dataset()
    for keyword in COPIED:
        if keyword not in first:
            continue
        with suppress(Exception):  # pydicom raises many kinds
            one = Dataset()
            one[keyword] = first[keyword]
            one.to_json_dict()
            header[keyword] = one[keyword]
    return header


def _require_uids(header: Any) -> None:
    """UIDs end up in names and addresses: what is none, such as `../`, goes no further."""
    for keyword in UIDS:
        if not UID.fullmatch(str(header.get(keyword) or "")):
            raise InvalidDicomError(
                f"The image's {keyword} is no UID: digits and dots, up to 64. Export the series "
                "again."
            )


def require_same_patient(fixed: Origin, moving: Origin) -> None:
    """Refuse two images that say that they are of different patients, see patient.py.

    Raises:
        PatientMismatchError: If they are. It says no more than that.
    """
    patient.require_same_patient(patient_of(fixed.header), patient_of(moving.header))
