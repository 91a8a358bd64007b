"""What is needed to do a registration again: checksums, versions, settings."""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path

from service.checksums import sha256_of
from service.registration.options import RegisterOptions, WarpOptions
from service.registration.report import Provenance


def checksums(files: Mapping[str, Path]) -> dict[str, str]:
    """Of the input files, by role; reads each once more."""
    return {role: sha256_of(path) for role, path in files.items()}


def provenance(
    inputs: dict[str, str], options: RegisterOptions | WarpOptions, *, provider: str
) -> Provenance:
    """The report's provenance, with the checksums of the inputs."""
    return Provenance(
        inputs=inputs,
        software=_software(),
        provider=provider,
        seed=getattr(options, "seed", 0),
        settings=options.model_dump(mode="json", exclude_none=True),
    )


@cache
def _software() -> str:
    return f"warpline {version('warpline')}"
