"""Points out of structured reports: every 3-D coordinate that marks a point, in their order.

Source: DICOM PS3.3 C.18.9 (spatial coordinates 3D); they are patient coordinates, LPS mm.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from service.errors import BadPointsError
from service.registration.points import MOST_POINTS

MOST_DEPTH = 16
POINTS = ("POINT", "MULTIPOINT", "FIDUCIAL")


def is_report(dataset: Any) -> bool:
    """Whether the object is a structured report."""
    return str(dataset.get("SOPClassUID", "")).startswith("1.2.840.10008.5.1.4.1.1.88.")


def read_marks(dataset: Any) -> np.ndarray:
    """World points (n, 3), RAS mm.

    Raises:
        BadPointsError: If there are none or too many, or they are not finite.
    """
    points = [point for item in _items(dataset, 0) for point in _points(item)]
    if not points:
        raise BadPointsError("The structured report marks no points in space (SCOORD3D, POINT).")
    if len(points) > MOST_POINTS:
        raise BadPointsError(
            f"The structured report marks {len(points)} points; up to {MOST_POINTS} can be moved."
        )
    found = np.array(points, float) * (-1, -1, 1)
    if not np.isfinite(found).all():
        raise BadPointsError("The structured report marks a point that is not finite.")
    return found


def _items(dataset: Any, depth: int) -> Iterator[Any]:
    for item in dataset.get("ContentSequence") or []:
        yield item
        if depth < MOST_DEPTH:
            yield from _items(item, depth + 1)


def _points(item: Any) -> Iterator[tuple[float, ...]]:
    if item.get("ValueType") != "SCOORD3D" or item.get("GraphicType") not in POINTS:
        return
    data = [float(value) for value in item.get("GraphicData") or []]
    for start in range(0, len(data) - len(data) % 3, 3):
        yield tuple(data[start : start + 3])
