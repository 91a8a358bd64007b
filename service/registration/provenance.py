"""What is needed to do a registration again: checksums, versions, settings."""

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from service.registration.options import RegisterOptions, WarpOptions
from service.registration.report import Provenance


def provenance(
    files: Mapping[str, Path], options: RegisterOptions | WarpOptions, *, provider: str
) -> Provenance:
    """The report's provenance; reads every input file once more for its checksum."""
    return Provenance(
        inputs={role: sha256_of(path) for role, path in files.items()},
        software=f"warpline {version('warpline')}",
        provider=provider,
        seed=getattr(options, "seed", 0),
        settings=options.model_dump(mode="json", exclude_none=True),
    )


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits; of a folder, of its files' sums, sorted.

    So the names and the places of a folder's files change nothing.
    """
    if path.is_dir():
        sums = sorted(sha256_of(file) for file in path.rglob("*") if file.is_file())
        return hashlib.sha256("".join(sums).encode()).hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
