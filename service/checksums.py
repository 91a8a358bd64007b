"""What files are told apart by."""

import hashlib
from pathlib import Path


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits; of a folder, of its files' sums, sorted.

    So the names and the places of a folder's files change nothing.
    """
    if path.is_dir():
        sums = sorted(sha256_of(file) for file in path.rglob("*") if file.is_file())
        return hashlib.sha256("".join(sums).encode()).hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
