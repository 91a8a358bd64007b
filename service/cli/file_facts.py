"""What a file says about itself, as the service reads it."""

from pathlib import Path
from typing import Any

import numpy as np

from service.registration.files.header import Header
from service.registration.files.limits import Limits
from service.registration.files.volume_file import verify_file
from service.registration.grid import Grid

# Letters of the world's axes, towards + and -.
TOWARDS = (("R", "L"), ("A", "P"), ("S", "I"))
OBLIQUE_DEGREES = 0.5


def facts_of(file: Path) -> dict[str, Any]:
    """Format, geometry and type of a volume file, every byte of it checked.

    Raises:
        InvalidFileError: As the service would refuse it.
    """
    from service.settings import Settings

    settings = Settings()
    header = verify_file(file, Limits(settings.max_voxels, settings.max_axis), "file")
    return {
        "format": header.format + (" (gzip)" if header.is_gzipped else ""),
        **_geometry(header.grid),
        **_voxels(header),
        "warnings": list(header.warnings),
        "verdict": "This file can be registered.",
    }


def _geometry(grid: Grid) -> dict[str, Any]:
    return {
        "shape": list(grid.shape),
        "spacing_mm": [round(float(mm), 4) for mm in grid.spacing_mm],
        "field_of_view_mm": [round(float(mm), 1) for mm in grid.extent_mm],
        "centre_mm": [round(float(mm), 1) for mm in grid.centre_mm],
        "orientation": orientation(grid),
        "affine": [[round(float(x), 5) for x in row] for row in grid.affine],
    }


def _voxels(header: Header) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "datatype": str(header.dtype),
        "byte_order": header.byte_order,
        "size_mib": round(header.voxel_bytes / 2**20, 1),
    }
    if header.is_scaled:
        facts["scaling"] = f"value = stored * {header.slope:g} + {header.inter:g}"
    return facts


def orientation(grid: Grid) -> str:
    """Where i, j and k run to, such as RAS, and by how much they are turned."""
    directions = grid.directions
    world = np.abs(directions).argmax(axis=0)
    letters = "".join(
        TOWARDS[axis][0 if directions[axis, column] > 0 else 1] for column, axis in enumerate(world)
    )
    cosines = np.abs(directions[world, range(3)]).clip(0, 1)
    degrees = float(np.degrees(np.arccos(cosines)).max())
    handed = "left-handed" if grid.is_left_handed else "right-handed"
    turned = f", oblique by {degrees:.1f} degrees" if degrees > OBLIQUE_DEGREES else ""
    return f"{letters} ({handed}{turned})"
