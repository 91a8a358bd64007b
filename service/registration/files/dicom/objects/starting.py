"""What every object that is written begins with: patient, study, series, equipment."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from pydicom import Dataset, FileDataset
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian

from service.registration.files.dicom.objects.uids import Uids
from service.registration.files.dicom.origin import FRAME_OF_REFERENCE, PATIENT, STUDY, Origin

MANUFACTURER = "Warpline"
# The first of the numbers that our series take; scanners count from 1.
SERIES_NUMBER = 901
UNKNOWN_DATE = "19000101"


@dataclass(frozen=True)
class Kind:
    """A kind of object, and the series that holds it."""

    sop_class: str
    modality: str
    name: str  # for UIDs, never shown
    description: str
    number: int  # from SERIES_NUMBER


@dataclass(frozen=True)
class Context:
    """What all objects of one registration have in common.

    Objects lie in the study and the frame of reference of `fixed`. With a key for it, the patient
    is taken out of them.
    """

    fixed: Origin
    moving: Origin
    uids: Uids
    deidentification_key: bytes | None = field(default=None, repr=False)

    @property
    def stamp(self) -> tuple[str, str]:
        """Date and time of the later of the two studies.

        Not of the registration: an object that is made again is to be the same to the last byte,
        for an archive that meets its UID a second time.
        """
        told = [
            (str(origin.header.get("StudyDate") or ""), str(origin.header.get("StudyTime") or ""))
            for origin in (self.fixed, self.moving)
        ]
        date, time = max(told)
        return date or UNKNOWN_DATE, time or "000000"


def started(context: Context, kind: Kind, instance: int = 1) -> FileDataset:
    """A new object with the modules that all of them share."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(kind.sop_class)
    meta.MediaStorageSOPInstanceUID = UID(context.uids.of(kind.name, instance))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    _copy(context.fixed, made, (*PATIENT, *STUDY, *FRAME_OF_REFERENCE))
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate",
                    "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber",
                    "PositionReferenceIndicator"):  # fmt: skip
        if keyword not in made:
            setattr(made, keyword, None)  # type 2: present, if empty
    made.SpecificCharacterSet = context.fixed.header.get("SpecificCharacterSet", "ISO_IR 192")
    made.SOPClassUID, made.SOPInstanceUID = kind.sop_class, meta.MediaStorageSOPInstanceUID
    made.Modality = kind.modality
    made.SeriesInstanceUID = context.uids.of(kind.name, "series")
    made.SeriesNumber = kind.number
    made.SeriesDescription = kind.description
    made.InstanceNumber = instance
    made.ContentDate, made.ContentTime = context.stamp
    made.Manufacturer = MANUFACTURER
    made.ManufacturerModelName = "Warpline"
    made.DeviceSerialNumber = "none"
    made.SoftwareVersions = version("warpline")
    return made


def _copy(origin: Origin, made: Dataset, keywords: Iterable[str]) -> None:
    for keyword in keywords:
        if keyword in origin.header:
            made[keyword] = origin.header[keyword]


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """A coded concept."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def instance_items(origin: Origin) -> Sequence:
    """References to every object of a series."""
    items = []
    for instance in origin.instances:
        item = Dataset()
        item.ReferencedSOPClassUID = instance.sop_class
        item.ReferencedSOPInstanceUID = instance.uid
        items.append(item)
    return Sequence(items)


def refer(made: Dataset, context: Context) -> None:
    """The common instance reference module: which series of which studies the object speaks of.

    Source: DICOM PS3.3 C.12.2.
    """
    here, elsewhere = [], []
    for origin in _distinct(context.fixed, context.moving):
        series = Dataset()
        series.SeriesInstanceUID = origin.series_uid
        series.ReferencedInstanceSequence = instance_items(origin)
        if origin.study_uid == context.fixed.study_uid:
            here.append(series)
        else:
            study = Dataset()
            study.StudyInstanceUID = origin.study_uid
            study.ReferencedSeriesSequence = Sequence([series])
            elsewhere.append(study)
    made.ReferencedSeriesSequence = Sequence(here)
    if elsewhere:
        made.StudiesContainingOtherReferencedInstancesSequence = Sequence(elsewhere)


def _distinct(*origins: Origin) -> list[Origin]:
    found: dict[str, Origin] = {}
    for origin in origins:
        found.setdefault(origin.series_uid, origin)
    return list(found.values())


def content(made: Dataset, label: str, description: str) -> None:
    """The content identification macro."""
    made.ContentLabel, made.ContentDescription = label, description
    made.ContentCreatorName = MANUFACTURER


def laterality(made: Dataset, context: Context) -> None:
    """The side of the body, empty where the fixed image does not tell (type 2C)."""
    made.Laterality = context.fixed.header.get("Laterality")


def lps(vector: Any) -> list[float]:
    """RAS to LPS, as decimal strings hold it: sixteen characters."""
    return [_short(-vector[0]), _short(-vector[1]), _short(vector[2])]


def _short(value: float) -> float:
    """The number that a decimal string of sixteen characters can hold."""
    return float(f"{float(value):.9g}")
