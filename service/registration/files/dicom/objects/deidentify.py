"""What we write, without the patient: the Basic Application Level Confidentiality Profile.

The rules are the standard's table as the package dicom-anonymizer keeps it. Its own program is not
used: it makes UIDs that only one process knows, sets dates that never were, and does not say in the
object that it was at work. What our objects say themselves, in words that are the same for every
patient, stays (CLEANED), which is what the options for descriptors and structured content ask for.

Source: DICOM PS3.15 E.1 (the profile, table E.1-1), E.3.4 and E.3.6 (those options), E.1.1 (what is
added); PS3.16 CID 7050 (the codes).
"""

import hmac
from copy import copy
from functools import cache
from typing import Any, Final

from pydicom import DataElement, Dataset, FileDataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence

from service.registration.files.dicom.objects.starting import code

EDITION = "2026c"
METHOD: Final = [
    "Warpline, rules of PS3.15 E.1 " + EDITION,
    "Pixels are not looked at",
]
CODES: Final = (
    ("113100", "Basic Application Confidentiality Profile"),
    ("113104", "Clean Structured Content Option"),
    ("113105", "Clean Descriptors Option"),
)
# Ours, the same words for every patient; and the sequences whose items hold references or figures.
CLEANED: Final = frozenset(
    {
        "SeriesDescription", "DerivationDescription", "ContentDescription", "ContentLabel",
        "ContentCreatorName", "SegmentLabel", "SegmentDescription", "ContentSequence",
        "TextValue", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions",
        "SourceImageSequence", "ReferencedImageSequence", "AlgorithmName",
    }
)  # fmt: skip
# Present in every object, even if there is nothing to say (type 2).
OWED: Final = frozenset(
    {
        "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName",
        "StudyID", "AccessionNumber", "ReferencedPerformedProcedureStepSequence",
        "PositionReferenceIndicator", "PatientPosition", "Laterality", "AcquisitionNumber",
        "AcquisitionDate", "AcquisitionTime",
    }
)  # fmt: skip
# Type 1, and the profile asks for a value that says nothing.
DUMMIES: Final = {"DA": "19000101", "TM": "000000", "DT": "19000101000000"}
WELL_KNOWN = "1.2.840.10008."


class Deidentifier:
    """Takes the patient out of objects; with one key always to the same new UIDs and names."""

    def __init__(self, key: bytes) -> None:
        """Without the key nobody gets from a new UID to the old one, nor finds it by trying."""
        self._key = key

    def uid(self, old: str) -> str:
        """What stands for a UID; those that the standard gives out stay.

        Source: DICOM PS3.5 B.2, UIDs of a UUID.
        """
        if not old or old.startswith(WELL_KNOWN):
            return old
        return f"2.25.{int.from_bytes(self._digest('uid', old)[:16])}"

    def pseudonym(self, made: Dataset) -> str:
        """What stands for the patient's ID and name."""
        who = (made.get("IssuerOfPatientID"), made.get("PatientID"), made.get("PatientName"))
        return "ANON-" + self._digest("patient", *map(str, who)).hex()[:16].upper()

    def without_patient(self, made: Dataset) -> FileDataset:
        """An object that is about to be written, without the patient; `made` stays as it is."""
        clean = FileDataset("", self._clean(made), file_meta=made.file_meta, preamble=made.preamble)
        clean.PatientID = clean.PatientName = self.pseudonym(made)
        clean.PatientIdentityRemoved = "YES"
        clean.DeidentificationMethod = list(METHOD)
        clean.DeidentificationMethodCodeSequence = Sequence(
            [code(value, "DCM", meaning) for value, meaning in CODES]
        )
        clean.LongitudinalTemporalInformationModified = "REMOVED"
        clean.file_meta = copy(made.file_meta)
        clean.file_meta.MediaStorageSOPInstanceUID = clean.SOPInstanceUID
        return clean

    def _clean(self, made: Dataset) -> Dataset:
        clean = Dataset()
        for element in made:
            if (new := self._cleaned(element)) is not None:
                clean.add(new)
        return clean

    def _cleaned(self, element: DataElement) -> DataElement | None:
        """What becomes of an attribute; objects share them, so none is changed."""
        tag, action = element.tag, action_of(element.tag)
        if tag.is_private or (tag.group & 0xFF00) in (0x5000, 0x6000):
            return None
        if element.VR == "UI":
            return DataElement(tag, "UI", self._replaced(element.value))
        if action and element.keyword not in CLEANED:
            return _acted(element, action)
        if element.VR == "SQ":
            return DataElement(tag, "SQ", Sequence([self._clean(item) for item in element.value]))
        return element

    def _replaced(self, value: Any) -> Any:
        if isinstance(value, MultiValue):
            return [self.uid(str(one)) for one in value]
        return self.uid(str(value or ""))

    def _digest(self, *parts: str) -> bytes:
        return hmac.digest(self._key, "\x1f".join(parts).encode(), "sha256")


def _acted(element: DataElement, action: str) -> DataElement | None:
    """Removed, emptied or replaced by a dummy: the first that the attribute's type allows."""
    if "D" in action and element.VR in DUMMIES:
        return DataElement(element.tag, element.VR, DUMMIES[element.VR])
    if "X" in action and element.keyword not in OWED:
        return None
    return DataElement(element.tag, element.VR, Sequence() if element.VR == "SQ" else None)


def action_of(tag: int) -> str:
    """The table's action, such as `X/Z`; empty for what the profile leaves alone."""
    return _table().get((tag >> 16, tag & 0xFFFF), "")


@cache
def _table() -> dict[tuple[int, int], str]:
    from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as table

    actions = {
        "D": table.D_TAGS, "Z": table.Z_TAGS, "X": table.X_TAGS, "U": table.U_TAGS,
        "Z/D": table.Z_D_TAGS, "X/Z": table.X_Z_TAGS, "X/D": table.X_D_TAGS,
        "X/Z/D": table.X_Z_D_TAGS, "X/Z/U*": table.X_Z_U_STAR_TAGS,
    }  # fmt: skip
    return {
        (tag[0], tag[1]): action
        for action, tags in actions.items()
        for tag in tags
        if len(tag) == 2
    }
