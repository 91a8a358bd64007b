"""Which series of DICOM was asked for, without its UID: options are stored and shown."""

import hashlib
import re

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def without_uid(choice: str) -> str:
    """A number as it is, a series UID as its digest."""
    if choice.isdecimal() or DIGEST.fullmatch(choice):
        return choice
    return f"sha256:{hashlib.sha256(choice.encode()).hexdigest()}"


def is_chosen(uid: str, choice: str) -> bool:
    """Whether a series UID is the one that was asked for, by itself or by its digest."""
    return choice == uid or (bool(uid) and choice == without_uid(uid))
