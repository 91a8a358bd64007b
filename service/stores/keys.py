"""Object keys: made by us, opaque, and the only names that objects have."""

import re

from service.errors import ResultNotFoundError

_SEGMENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
LONGEST = 255


def checked_key(key: str) -> str:
    """The key, if it is one that we could have made: no `..`, no hidden or empty segment.

    Raises:
        ResultNotFoundError: If it is not; the same answer as for an object that does not exist.
    """
    parts = key.split("/")
    if len(key) > LONGEST or not all(_SEGMENT.fullmatch(part) for part in parts):
        raise ResultNotFoundError
    return key
