"""What we write, without the patient: the Basic Application Level Confidentiality Profile.

The rules are the standard's table as the package dicom-anonymizer keeps it. Its own program is not
used: it makes UIDs that only one process knows, sets dates that never were, and does not say in the
object that it was at work. What our objects say themselves, in words that are the same for every
patient, stays (CLEANED), which is what the options for descriptors and structured content ask for.

Source: DICOM PS3.15 E.1 (the profile, table E.1-1), E.3.4 and E.3.6 (those options), E.1.1 (what is
added); PS3.16 CID 7050 (the codes).
"""

import hmac
from functools import cache
from typing import Final

from pydicom import DataElement, Dataset
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

    def apply(self, made: Dataset) -> None:
        """Change an object that is about to be written, in place."""
        pseudonym = self.pseudonym(made)
        self._clean(made)
        made.PatientID = made.PatientName = pseudonym
        made.PatientIdentityRemoved = "YES"
        made.DeidentificationMethod = list(METHOD)
        made.DeidentificationMethodCodeSequence = Sequence(
            [code(value, "DCM", meaning) for value, meaning in CODES]
        )
        made.LongitudinalTemporalInformationModified = "REMOVED"
        meta = getattr(made, "file_meta", None)
        if meta is not None:
            meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID

    def _clean(self, made: Dataset) -> None:
        for element in list(made):
            action = action_of(element.tag)
            if element.tag.is_private or (element.tag.group & 0xFF00) in (0x5000, 0x6000):
                del made[element.tag]
            elif element.VR == "UI":
                self._replace(element)
            elif action and element.keyword not in CLEANED:
                _act(made, element, action)
            if element.VR == "SQ" and element.tag in made:
                for item in element.value:
                    self._clean(item)

    def _replace(self, element: DataElement) -> None:
        if isinstance(element.value, MultiValue):
            element.value = [self.uid(str(one)) for one in element.value]
        else:
            element.value = self.uid(str(element.value or ""))

    def _digest(self, *parts: str) -> bytes:
        return hmac.digest(self._key, "\x1f".join(parts).encode(), "sha256")


def _act(made: Dataset, element: DataElement, action: str) -> None:
    """Remove, empty or replace by a dummy: the first of these that the attribute's type allows."""
    if "X" in action and element.keyword not in OWED:
        del made[element.tag]
    elif action in ("D", "Z/D", "X/D") and element.VR in DUMMIES:
        element.value = DUMMIES[element.VR]
    elif element.keyword != "PatientIdentityRemoved":
        element.value = Sequence() if element.VR == "SQ" else None


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
