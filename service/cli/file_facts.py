"""What a file or a folder says about itself, as the service reads it."""

from pathlib import Path
from typing import Any

from service.registration.files.dicom.source import is_dicom_source
from service.registration.files.facts import geometry, report, voxels
from service.registration.files.limits import Limits
from service.registration.files.volume_file import verify_file


def facts_of(file: Path) -> dict[str, Any]:
    """Format, geometry and type of a volume file, every byte of it checked; of DICOM each volume.

    Raises:
        InvalidFileError: As the service would refuse it.
    """
    from service.settings import Settings

    settings = Settings()
    limits = Limits(settings.max_voxels, settings.max_axis)
    if is_dicom_source(file):
        return report(file, limits)
    header = verify_file(file, limits, "file")
    return {
        "format": header.format + (" (gzip)" if header.is_gzipped else ""),
        **geometry(header.grid),
        **voxels(header),
        "warnings": list(header.warnings),
        "verdict": "This file can be registered.",
    }
