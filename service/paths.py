"""Paths that strangers name."""

import re
from pathlib import PurePosixPath

from service.errors import ArchivePathError

_LONGEST_PATH, _DEEPEST_PATH, _LONGEST_PART_BYTES = 240, 16, 200
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\]|[\u200e\u200f\u202a-\u202e\u2066-\u2069]')

# A word of a caller's that is to be the name of a folder.
SUBJECT_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"


def checked_path(path: str) -> PurePosixPath:
    """A relative path that stays in its folder on every system.

    Raises:
        ArchivePathError: If it is absolute, goes up, or holds characters that deceive.
    """
    pure = PurePosixPath(path)
    is_plain = (
        0 < len(path) <= _LONGEST_PATH
        and not pure.is_absolute()
        and 0 < len(pure.parts) <= _DEEPEST_PATH
        and not _FORBIDDEN.search(path)
        and all(_is_plain_part(part) for part in pure.parts)
    )
    if not is_plain:
        raise ArchivePathError(
            "A file of the data has a path that is absolute, goes up with `..`, or holds "
            "characters that file systems do not share. Use plain relative paths."
        )
    return pure


def _is_plain_part(part: str) -> bool:
    is_short = len(part.encode(errors="surrogatepass")) <= _LONGEST_PART_BYTES
    return part != ".." and part == part.strip() and is_short and part.isprintable()
