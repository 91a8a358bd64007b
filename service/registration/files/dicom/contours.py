"""Structure sets of radiotherapy as label maps on the grid of their image.

A voxel belongs to a structure when its centre lies within the contours of its slice; contours
within contours are holes (even-odd rule). ROI numbers, in order, are the labels 1, 2, 3 and so on.

Source: DICOM PS3.3 C.8.8.6 (ROI contour), C.8.8.6.3 (holes by XOR).
"""

from typing import Any

import numpy as np

from service.errors import BadLabelsError, GridMismatchError, InvalidDicomError
from service.registration.files.dicom.frames import number
from service.registration.grid import Grid

CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
OFF_SLICE_VOXELS = 0.35
MOST_STRUCTURES = 65535


def is_structure_set(dataset: Any) -> bool:
    """Whether the object is one."""
    return str(dataset.get("SOPClassUID", "")) == CLASS


def read_contours(dataset: Any, grid: Grid, warnings: list[str]) -> np.ndarray:
    """The label map (i, j, k) on the grid of the image.

    Args:
        dataset: The structure set.
        grid: Of the image that it was drawn on.
        warnings: Takes a sentence for what was passed over.

    Raises:
        InvalidDicomError: If it has no contours.
        GridMismatchError: If none of them lies in a slice of the image.
    """
    labels = np.zeros(grid.shape, np.uint16)
    outside, other, drawn = 0, 0, 0
    items = sorted(
        dataset.get("ROIContourSequence") or [],
        key=lambda item: number(item.get("ReferencedROINumber"), 0),
    )
    if len(items) > MOST_STRUCTURES:
        raise BadLabelsError(f"Up to {MOST_STRUCTURES} structures are read.")
    for label, item in enumerate(items, start=1):
        planes: dict[int, np.ndarray] = {}
        for contour in item.get("ContourSequence") or []:
            if str(contour.get("ContourGeometricType", "")) not in CLOSED:
                other += 1
                continue
            k, polygon = _in_slice(contour, grid)
            if k is None:
                outside += 1
                continue
            mask = planes.setdefault(k, np.zeros(grid.shape[:2], bool))
            mask ^= _filled(polygon, grid.shape[:2])
            drawn += 1
        for k, mask in planes.items():
            labels[:, :, k][mask] = label
    if not drawn and not outside:
        raise InvalidDicomError("The structure set has no closed contours.")
    if not drawn:
        raise GridMismatchError("No contour lies in a slice of the image.")
    if outside:
        warnings.append(f"{outside} contours lie in no slice of the image and were left out.")
    if other:
        warnings.append(f"{other} open contours and points of the structure set were left out.")
    return labels


def _in_slice(contour: Any, grid: Grid) -> tuple[int | None, np.ndarray]:
    """The slice that a contour lies in, and its corners there as (n, 2) voxels i, j."""
    try:
        points = np.array(contour.get("ContourData") or [], float).reshape(-1, 3)
    except ValueError:
        raise InvalidDicomError("A contour is not a list of points.") from None
    if len(points) < 3 or not np.isfinite(points).all():
        return None, points
    index = grid.to_voxel(points * (-1, -1, 1))
    k = round(float(index[:, 2].mean()))
    is_flat = np.abs(index[:, 2] - k).max() <= OFF_SLICE_VOXELS
    return (k if is_flat and 0 <= k < grid.shape[2] else None), index[:, :2]


def _filled(polygon: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Whether each voxel's centre lies within: along each row of j, between pairs of crossings."""
    mask = np.zeros(shape, bool)
    start, end = polygon, np.roll(polygon, -1, axis=0)
    low = max(0, int(np.ceil(polygon[:, 1].min())))
    high = min(shape[1] - 1, int(np.floor(polygon[:, 1].max())))
    centres = np.arange(shape[0])
    for j in range(low, high + 1):
        crosses = (start[:, 1] <= j) != (end[:, 1] <= j)
        a, b = start[crosses], end[crosses]
        at = np.sort(a[:, 0] + (j - a[:, 1]) / (b[:, 1] - a[:, 1]) * (b[:, 0] - a[:, 0]))
        mask[:, j] = np.searchsorted(at, centres, side="right") % 2 == 1
    return mask
