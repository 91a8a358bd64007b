"""Whose images these are: compared by digests, so that no name is in a traceback or an answer."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.errors import MixedSeriesError, PatientMismatchError


@dataclass(frozen=True, repr=False)
class Patient:
    """Digests of what tells patients apart; empty where an image does not say it."""

    id: str = ""
    issuer: str = ""
    name: str = ""
    birth: str = ""

    def differs_from(self, other: "Patient") -> bool:
        """Whether both say enough to know that they are not the same.

        The ID decides, with its issuer where both tell one. Images without an ID are compared by
        name and birth date; what is empty in one of them says nothing.
        """
        is_same_issuer = self.issuer == other.issuer or not (self.issuer and other.issuer)
        if self.id and other.id and is_same_issuer:
            return self.id != other.id
        pairs = ((self.name, other.name), (self.birth, other.birth))
        return any(one and two and one != two for one, two in pairs)


def patient_of(header: Mapping[str, Any] | Any) -> Patient:
    """The digests out of a data set."""
    keywords = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate")
    return Patient(*(_digest(header.get(keyword)) for keyword in keywords))


def _digest(value: Any) -> str:
    text = str(value or "").strip(" ^").casefold()
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest() if text else ""


def require_same_patient(fixed: Patient | None, moving: Patient | None) -> None:
    """Refuse two images that say that they are of different patients.

    Raises:
        PatientMismatchError: If they are. It says no more than that.
    """
    if fixed is not None and moving is not None and fixed.differs_from(moving):
        raise PatientMismatchError(
            "The two series say that they are of different patients. If that is meant, as in a "
            "study of a cohort, allow it with `allow_different_patients`.",
            field="moving",
        )


def require_one_patient(patients: Sequence[Patient]) -> None:
    """Refuse slices of one volume that say that they are of different patients.

    Raises:
        MixedSeriesError: If they do.
    """
    if any(one.differs_from(patients[0]) for one in patients[1:]):
        raise MixedSeriesError(
            "Slices of one series say that they are of different patients. Export the series again."
        )
