"""What a file holds, as the service reads it: for whoever wants to know before registering.

Nothing here is of the patient: names, dates, descriptions and UIDs stay in the file.
"""

from pathlib import Path
from typing import Any

import numpy as np

from service.registration.files.dicom.source import is_dicom_source, report_dicom
from service.registration.files.header import Header
from service.registration.files.limits import Limits
from service.registration.files.volume_file import verify_file
from service.registration.grid import Grid

# Letters of the world's axes, towards + and -.
TOWARDS = (("R", "L"), ("A", "P"), ("S", "I"))
OBLIQUE_DEGREES = 0.5


def report(path: Path, limits: Limits, field: str = "file") -> dict[str, Any]:
    """Every volume in a file, an archive or a folder: number, geometry, type, what is odd about it.

    Args:
        path: What was sent.
        limits: What would be refused as too large.
        field: The part of the request that errors name.

    Raises:
        InvalidFileError: If there is no volume in it.
    """
    if not is_dicom_source(path):
        header = verify_file(path, limits, field)
        volumes = [{"number": 1, **geometry(header.grid), "datatype": str(header.dtype)}]
        return _told(header.format, volumes, header.warnings)
    found = report_dicom(path, limits)
    volumes = [_with_geometry(volume) for volume in found["volumes"]]
    told = _told("dicom", volumes, found["warnings"])
    return told | {key: found[key] for key in ("files", "dicom_files", "volume_count")}


def _told(form: str, volumes: list[dict[str, Any]], warnings: Any) -> dict[str, Any]:
    return {
        "format": form,
        "volumes": volumes,
        "warnings": list(warnings),
        "verdict": verdict([volume for volume in volumes if not volume.get("problem")], volumes),
    }


def verdict(sound: list[dict[str, Any]], volumes: list[dict[str, Any]]) -> str:
    """A sentence: can this be registered, and what has to be said for it."""
    if not sound:
        return "None of the volumes can be registered; see their problems."
    if len(volumes) == 1:
        return "This can be registered."
    numbers = ", ".join(str(volume["number"]) for volume in sound)
    return (
        f"There are {len(volumes)} volumes; choose one with `fixed_series` or `moving_series`: "
        f"{numbers}."
    )


def _with_geometry(volume: dict[str, Any]) -> dict[str, Any]:
    shape, affine = volume.pop("shape", None), volume.pop("affine", None)
    if shape is None:
        return volume
    return volume | geometry(Grid(tuple(shape), np.array(affine)))


def geometry(grid: Grid) -> dict[str, Any]:
    """Where the voxels lie, rounded as one would say it."""
    return {
        "shape": list(grid.shape),
        "spacing_mm": [round(float(mm), 4) for mm in grid.spacing_mm],
        "field_of_view_mm": [round(float(mm), 1) for mm in grid.extent_mm],
        "centre_mm": [round(float(mm), 1) for mm in grid.centre_mm],
        "orientation": orientation(grid),
        "affine": [[round(float(x), 5) for x in row] for row in grid.affine],
    }


def voxels(header: Header) -> dict[str, Any]:
    """How the voxels are stored."""
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
