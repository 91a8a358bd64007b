"""Small text files from strangers: read whole, but never more than is sensible."""

from pathlib import Path

import numpy as np

from service.errors import InvalidFileError

MOST_BYTES = 64 << 20


def read_start(path: Path, error: type[InvalidFileError]) -> bytes:
    """The file's bytes.

    Raises:
        InvalidFileError: Of the given kind, if there are over 64 MiB or none.
    """
    with path.open("rb") as stream:
        data = stream.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise error("The file is larger than 64 MiB. Check that the right file was sent.")
    if not data:
        raise error("The file is empty. Check that the right file was sent.")
    return data


def decoded(data: bytes, error: type[InvalidFileError]) -> str:
    """The bytes as text, UTF-8 with or without a byte order mark.

    Raises:
        InvalidFileError: Of the given kind, if they are something else.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise error("The file is not UTF-8 text. Save it as plain text in UTF-8.") from None


def numbers(words: list[str]) -> np.ndarray | None:
    """The words as finite numbers; None if one is something else."""
    try:
        values = np.array([float(word) for word in words], dtype=np.float64)
    except ValueError:
        return None
    return values if np.isfinite(values).all() else None
