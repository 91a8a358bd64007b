"""UIDs that a re-run makes again, so that an archive keeps one copy."""

from dataclasses import dataclass
from uuid import UUID, uuid5

NAMESPACE = UUID("6d1c1b0e-7a3f-5e0e-9a59-6f8c6f2f7a11")


@dataclass(frozen=True)
class Uids:
    """UIDs of the objects of one registration.

    `seed` is the same for the same inputs, options and model, and says nothing about them.

    Source: DICOM PS3.5 B.2, UIDs of a UUID.
    """

    seed: str

    def of(self, *parts: object) -> str:
        """The UID of an object, by what it is."""
        name = "/".join([self.seed, *map(str, parts)])
        return f"2.25.{uuid5(NAMESPACE, name).int}"
