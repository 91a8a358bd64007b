"""Lists of points: our CSV, that of ANTs, markups of 3D Slicer, DICOM structured reports.

Ours has a header line with the columns `x_mm`, `y_mm`, `z_mm` (world, RAS+) and, if the points have
names, `id` (or `label`); other columns are ignored. ANTs' has `x`, `y`, `z` in LPS, which only the
caller can know: see `frame`. Slicer's files say their frame themselves.
"""

import csv
import io
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np

from service.errors import BadPointsError
from service.registration.files.dicom.source import is_dicom_source, read_dicom_points
from service.registration.files.header import faults_of
from service.registration.files.limits import Limits
from service.registration.files.text import decoded, numbers, read_start
from service.registration.points import MOST_POINTS, WorldPoints

Frame = Literal["ras", "lps"]

OUR_COLUMNS, BARE_COLUMNS = ("x_mm", "y_mm", "z_mm"), ("x", "y", "z")
NAME_COLUMNS = ("id", "label", "name")
FCSV_START = "# Markups fiducial file"
FCSV_FRAMES: dict[str, Frame] = {"ras": "ras", "0": "ras", "lps": "lps", "1": "lps"}
TO_RAS = {"ras": np.array([1.0, 1.0, 1.0]), "lps": np.array([-1.0, -1.0, 1.0])}


def read_points(path: Path, field: str = "points", *, frame: Frame | None = None) -> WorldPoints:
    """Read points as world millimetres, RAS+.

    Args:
        path: CSV, .fcsv, .mrk.json or a DICOM structured report; told from the content.
        field: The part of the request that errors name.
        frame: The frame of a CSV's coordinates; needed for columns x, y, z, where ANTs means LPS.

    Raises:
        BadPointsError: If the file is no list of points, or its frame is unknown.
    """
    with faults_of(field):
        if is_dicom_source(path):
            return WorldPoints(read_dicom_points(path, Limits()))
        text = decoded(read_start(path, BadPointsError), BadPointsError)
        if text.lstrip().startswith("{"):
            return _read_markups(text)
        if text.startswith(FCSV_START):
            return _read_fcsv(text)
        return _read_csv(text, frame)


def write_points(path: Path, points: WorldPoints) -> None:
    """Write points as CSV: `id` (their name or number from 1), `x_mm`, `y_mm`, `z_mm`, RAS+."""
    names = points.ids or tuple(str(number + 1) for number in range(len(points)))
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("id", *OUR_COLUMNS))
        for name, position in zip(names, points.positions_mm, strict=True):
            writer.writerow((name, *(f"{x:.6f}" for x in position)))


def _read_csv(text: str, frame: Frame | None) -> WorldPoints:
    rows = _rows(text)
    header = [cell.strip().lower() for cell in rows[0]]
    columns = OUR_COLUMNS if set(OUR_COLUMNS) <= set(header) else BARE_COLUMNS
    if not set(columns) <= set(header):
        raise BadPointsError(
            "The first line must name the columns x_mm, y_mm and z_mm: world millimetres, RAS+ "
            "(x to the right, y to the front, z up). An id column is optional."
        )
    if columns == BARE_COLUMNS and frame is None:
        raise BadPointsError(
            "Columns x, y, z do not say their frame (ANTs means LPS, many tools RAS). Name them "
            "x_mm, y_mm, z_mm and give RAS+ millimetres."
        )
    return _of_rows(rows[1:], header, columns, frame or "ras")


def _rows(text: str) -> list[list[str]]:
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    except csv.Error:
        raise BadPointsError("The file is not a table of comma-separated values.") from None
    if not rows:
        raise BadPointsError("The file holds no line.")
    return rows


def _of_rows(
    rows: list[list[str]], header: list[str], columns: tuple[str, ...], frame: Frame
) -> WorldPoints:
    if not 0 < len(rows) <= MOST_POINTS:
        raise BadPointsError(f"The file holds {len(rows)} points; 1 to {MOST_POINTS} can be moved.")
    places = [header.index(column) for column in columns]
    named = next((header.index(name) for name in NAME_COLUMNS if name in header), None)
    positions = np.empty((len(rows), 3))
    for number, row in enumerate(rows):
        values = numbers([row[place] for place in places]) if len(row) > max(places) else None
        if values is None:
            raise BadPointsError(
                f"Point {number + 1} does not have three finite numbers as its coordinates."
            )
        positions[number] = values
    if named is None:
        return WorldPoints(positions * TO_RAS[frame])
    ids = tuple(row[named] if named < len(row) else "" for row in rows)
    return WorldPoints(positions * TO_RAS[frame], ids)


def _read_fcsv(text: str) -> WorldPoints:
    """Source: 3D Slicer, vtkMRMLMarkupsFiducialStorageNode; 0 and 1 were RAS and LPS once."""
    comments = [line for line in text.splitlines() if line.startswith("#")]
    stated = {
        key.strip(" #").lower(): value.strip()
        for key, _, value in (line.partition("=") for line in comments)
    }
    frame = FCSV_FRAMES.get(stated.get("coordinatesystem", "").lower())
    header = [cell.strip().lower() for cell in stated.get("columns", "").split(",")]
    if frame is None or not set(BARE_COLUMNS) <= set(header):
        raise BadPointsError(
            "The .fcsv file does not state its coordinate system (RAS or LPS) and its columns. "
            "Save it again with 3D Slicer."
        )
    body = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    named = [cell if cell != "id" else "" for cell in header]  # Slicer's id is a long unique text
    return _of_rows(_rows(body), named if "label" in header else header, BARE_COLUMNS, frame)


def _read_markups(text: str) -> WorldPoints:
    """Source: 3D Slicer's markups schema 1.0.3."""
    try:
        markups = json.loads(text)["markups"]
        found = [
            (point, str(markup["coordinateSystem"]).lower(), _is_in_mm(markup))
            for markup in markups
            for point in markup["controlPoints"]
        ]
        positions = np.array([[float(x) for x in point["position"]] for point, _, _ in found])
        ids = tuple(str(point.get("label", "")) for point, _, _ in found)
        signs = np.array([TO_RAS[frame] for _, frame, _ in found])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError):
        raise BadPointsError(
            "The JSON file is not a list of markups in RAS or LPS as 3D Slicer writes it "
            "(.mrk.json)."
        ) from None
    if not found or positions.shape != signs.shape or not np.isfinite(positions).all():
        raise BadPointsError("A point has no position, or not three finite coordinates.")
    if any(point.get("positionStatus", "defined") != "defined" for point, _, _ in found):
        raise BadPointsError("A point has not been placed yet. Place it, or remove it.")
    if not all(in_mm for _, _, in_mm in found):
        raise BadPointsError("The points are not in millimetres. Save them again in millimetres.")
    return WorldPoints(positions * signs, ids if any(ids) else None)


def _is_in_mm(markup: dict[str, Any]) -> bool:
    units = markup.get("coordinateUnits", "mm")
    return units in ("mm", ["mm", "mm", "mm"])
