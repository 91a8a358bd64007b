"""Text from strangers: small files read whole, and the headers of image files."""

import re
from pathlib import Path

import numpy as np

from service.errors import CorruptFileError, InvalidFileError
from service.registration.files.content import Content

MOST_BYTES = 64 << 20
MOST_HEADER_BYTES = 64 << 10


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


def numbers(words: list[str], *, allow_non_finite: bool = False) -> np.ndarray | None:
    """The words as numbers; None if one is something else, or not finite."""
    try:
        values = np.array([float(word) for word in words], dtype=np.float64)
    except ValueError:
        return None
    return values if allow_non_finite or np.isfinite(values).all() else None


def integers(text: str) -> list[int] | None:
    """The words as whole numbers of up to 18 digits; None if one is something else or none."""
    words = text.split()
    if not words or not all(re.fullmatch(r"[+-]?[0-9]{1,18}", word) for word in words):
        return None
    return [int(word) for word in words]


def header_text(content: Content, end: re.Pattern[bytes]) -> str:
    """The text up to and with the end, past which the content is left.

    Raises:
        CorruptFileError: If there is no end within 64 KiB.
    """
    start = content.peek(MOST_HEADER_BYTES)
    found = end.search(start)
    if found is None:
        raise CorruptFileError("The file's text header has no end. Send the whole file again.")
    content.pass_over(found.end())
    return start[: found.end()].decode("latin-1")
