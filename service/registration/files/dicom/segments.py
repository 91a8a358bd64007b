"""DICOM segmentations as label maps on the grid of their image.

Each frame of a segment is a plane; a voxel of the image takes the label of the nearest pixel of the
plane that it lies in. Segment numbers are the labels; where segments overlap the higher one wins.

Source: DICOM PS3.3 C.8.20 (segmentation image), C.8.20.2.3 (fractional), C.8.20.2.3.3 (label map).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydicom.pixels.utils import pixel_array

from service.errors import BadLabelsError, CorruptFileError, GridMismatchError
from service.registration.files.dicom.frames import number, numbers, unit_orientation
from service.registration.files.dicom.planes import Groups
from service.registration.files.orientation import LPS_TO_RAS
from service.registration.grid import Grid

CLASSES = {"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"}
MOST_SEGMENT = 65535


def is_segmentation(dataset: Any) -> bool:
    """Whether the object is one."""
    return str(dataset.get("SOPClassUID", "")) in CLASSES


def read_segments(dataset: Any, grid: Grid, warnings: list[str]) -> np.ndarray:
    """The label map (i, j, k) on the grid of the image.

    Args:
        dataset: The whole object.
        grid: Of the image that was segmented, or of another one in its frame of reference.
        warnings: Takes a sentence where segments overlap.

    Raises:
        CorruptFileError: If the pixels cannot be decoded.
        GridMismatchError: If no frame meets the image.
        BadLabelsError: If a segment's number is over 65,535.
    """
    frames = _decoded(dataset)
    labels = np.zeros(grid.shape, np.uint16)
    met, overlapping = 0, 0
    for values, groups, label in _ordered(dataset, frames):
        where, found = _values_at(values, groups, grid)
        if found is None:
            continue
        met += 1
        inside = found > 0
        part, new = labels[where], found if label is None else np.full_like(labels[where], label)
        overlapping += int((inside & (part > 0) & (part != new)).sum())
        part[inside] = new[inside]
    if not met:
        raise GridMismatchError(
            "The segmentation does not meet its image in space. Send the one that belongs to it."
        )
    if overlapping:
        warnings.append(
            f"Segments overlap in {overlapping} voxels; the higher segment number was taken."
        )
    return labels


def _decoded(dataset: Any) -> np.ndarray:
    """(frames, rows, columns), 0 for outside."""
    try:
        values = np.asarray(pixel_array(dataset, raw=True))
    except Exception as error:  # decoders raise what they like
        raise CorruptFileError("The segmentation's pixels cannot be decoded.") from error
    values = values.reshape(-1, *values.shape[-2:])
    if str(dataset.get("SegmentationType", "")) == "FRACTIONAL":
        most = number(dataset.get("MaximumFractionalValue"), 255.0)
        return np.asarray(values >= most / 2).astype(np.uint8)
    if (padding := dataset.get("PixelPaddingValue")) is not None:
        values = np.where(values == padding, 0, values)  # of label maps: what no segment covers
    return values


def _ordered(dataset: Any, frames: np.ndarray) -> list[tuple[np.ndarray, Groups, int | None]]:
    """Frames with their groups and label, the lowest label first; None for a label map's."""
    own = dataset.PerFrameFunctionalGroupsSequence
    if len(own) != len(frames):
        raise CorruptFileError("The segmentation has other frames than it describes.")
    shared = dataset.get("SharedFunctionalGroupsSequence")
    common = shared[0] if shared else None
    ordered: list[tuple[np.ndarray, Groups, int | None]] = []
    for values, item in zip(frames, own, strict=True):
        groups = Groups(item, common)
        told = groups.item("SegmentIdentificationSequence").get("ReferencedSegmentNumber")
        label = None if told is None else int(number(told, 0))
        if label is not None and not 0 < label <= MOST_SEGMENT:
            raise BadLabelsError(f"Segment numbers go from 1 to {MOST_SEGMENT}.")
        ordered.append((values, groups, label))
    return sorted(ordered, key=lambda frame: frame[2] or 0)


def _values_at(
    values: np.ndarray, groups: Groups, grid: Grid
) -> tuple[tuple[slice, ...], np.ndarray | None]:
    """The part of the grid near a frame, and the frame's values there; None if there is none."""
    to_plane = np.linalg.inv(LPS_TO_RAS @ _plane(groups)) @ grid.affine
    where = _near(to_plane, grid)
    if any(part.start >= part.stop for part in where):
        return where, None
    axes = [np.arange(part.start, part.stop, dtype=float) for part in where]
    column, row, off = (
        to_plane[n, 0] * axes[0][:, None, None]
        + to_plane[n, 1] * axes[1][None, :, None]
        + to_plane[n, 2] * axes[2][None, None, :]
        + to_plane[n, 3]
        for n in range(3)
    )
    i, j = np.rint(column).astype(int), np.rint(row).astype(int)
    rows, columns = values.shape
    inside = (np.abs(off) <= 0.5) & (i >= 0) & (i < columns) & (j >= 0) & (j < rows)
    found = np.where(inside, values[np.clip(j, 0, rows - 1), np.clip(i, 0, columns - 1)], 0)
    return where, found if inside.any() else None


def _plane(groups: Groups) -> np.ndarray:
    """Pixel (column, row) and thicknesses off the plane, to LPS mm."""
    told = groups.item("PlanePositionSequence").get("ImagePositionPatient")
    turned = groups.item("PlaneOrientationSequence").get("ImageOrientationPatient")
    directions = np.reshape(unit_orientation(turned), (2, 3))
    measures = groups.item("PixelMeasuresSequence")
    spacing = numbers(measures.get("PixelSpacing"), 2, "pixel spacing")
    between = number(measures.get("SpacingBetweenSlices"), 0.0)
    thickness = between or number(measures.get("SliceThickness"), 0.0) or 1.0
    plane = np.eye(4)
    plane[:3, 0], plane[:3, 1] = directions[0] * spacing[1], directions[1] * spacing[0]
    plane[:3, 2] = np.cross(*directions) * thickness
    plane[:3, 3] = numbers(told, 3, "position")
    return plane


def _near(to_plane: np.ndarray, grid: Grid) -> tuple[slice, ...]:
    """All of the grid, but along an axis that is the plane's normal only what lies in it."""
    whole = [slice(0, n) for n in grid.shape]
    row = to_plane[2]
    axis = int(np.argmax(np.abs(row[:3])))
    others: Sequence[float] = [abs(row[n]) for n in range(3) if n != axis]
    if max(others) * max(grid.shape) < 1e-2:
        ends = sorted(((-0.5 - row[3]) / row[axis], (0.5 - row[3]) / row[axis]))
        start = int(np.ceil(np.clip(ends[0] - 1e-2, 0, grid.shape[axis])))
        stop = int(np.floor(np.clip(ends[1] + 1e-2, -1, grid.shape[axis] - 1))) + 1
        whole[axis] = slice(start, stop)
    return tuple(whole)
