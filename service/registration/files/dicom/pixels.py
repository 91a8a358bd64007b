"""From stored pixels to values on the grid of a layout.

Stored pixels may have foreign bits above those that count, a slope of their own in each slice, and
any of the encodings of syntaxes.py. MONOCHROME1 says how an image is shown, dark for high; its
values mean the same, so they stay as they are.

Source: DICOM PS3.5 section 8 (pixels), PS3.3 C.7.6.3 (image pixel module), C.11.1 (rescale).
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.pixels.utils import pixel_array

from service.errors import CorruptFileError
from service.registration.files.dicom.frames import Frame, PixelFormat
from service.registration.files.dicom.parsing import parsing
from service.registration.files.dicom.spacing import SAME_VOX, Layout
from service.registration.files.dicom.stacks import Stack
from service.registration.files.dicom.syntaxes import decoder_of

UNREADABLE = "The pixels of a slice cannot be decoded; send the series again."


def values_on(layout: Layout, stack: Stack, planes: Iterator[np.ndarray]) -> np.ndarray:
    """The volume (i, j, k) in Fortran order, as integers where they hold it exactly, or float32.

    Args:
        layout: Where each slice lies on the grid.
        stack: The slices, in the order of `planes`.
        planes: Stored pixels, (rows, columns) each.

    Raises:
        CorruptFileError: If a slice cannot be decoded.
    """
    dtype = value_type(stack)
    columns, rows = stack.first.kind.columns, stack.first.kind.rows
    count = len(stack.frames)
    values = np.empty((columns, rows, count), dtype, order="F")
    for n, (frame, plane) in enumerate(zip(stack.frames, planes, strict=True)):
        values[:, :, n] = _rescaled(plane, frame, dtype).T
    if layout.is_tilted:
        values = _straightened(values, layout)
    if layout.is_uneven:
        values = _evened(values, layout)
    return values


def planes_of(stack: Stack, files: Sequence[Path]) -> Iterator[np.ndarray]:
    """The stored pixels of each frame; a file with several is read once.

    Raises:
        CorruptFileError: If one cannot be decoded.
    """
    for file, frames in groupby(stack.frames, key=lambda frame: frame.file):
        with parsing():
            dataset = pydicom.dcmread(files[file])
        for frame in frames:
            yield _stored(dataset, frame)


def _stored(dataset: Any, frame: Frame) -> np.ndarray:
    index = frame.number if "PerFrameFunctionalGroupsSequence" in dataset else None
    with parsing(CorruptFileError(UNREADABLE)):
        plane = np.asarray(
            pixel_array(
                dataset,
                index=index,
                raw=True,
                decoding_plugin=decoder_of(dataset.file_meta.TransferSyntaxUID),
            )
        )
    if plane.shape != (frame.kind.rows, frame.kind.columns) or plane.dtype.kind not in "iu":
        raise CorruptFileError(UNREADABLE)
    if plane.dtype.itemsize * 8 <= frame.pixels.high:
        raise CorruptFileError(UNREADABLE)
    return _counting_bits(plane, frame.pixels)


def _counting_bits(plane: np.ndarray, pixels: PixelFormat) -> np.ndarray:
    """Without the bits that do not count, which may hold overlays; the sign is carried up."""
    bits = plane.dtype.itemsize * 8
    if pixels.stored == bits:
        return plane
    kind = f"{'i' if pixels.is_signed else 'u'}{plane.dtype.itemsize}"
    moved = np.left_shift(plane.view(f"u{plane.dtype.itemsize}"), bits - pixels.high - 1)
    return np.asarray(np.right_shift(moved.view(kind), bits - pixels.stored))


def value_type(stack: Stack) -> np.dtype[Any]:
    """The smallest type that holds every value exactly; float32 where slopes are no integers."""
    low, high = np.inf, -np.inf
    for frame in stack.frames:
        if frame.slope != round(frame.slope) or frame.intercept != round(frame.intercept):
            return np.dtype(np.float32)
        stored = frame.pixels.stored
        least = -(1 << (stored - 1)) if frame.pixels.is_signed else 0
        ends = sorted(
            frame.slope * value + frame.intercept for value in (least, least + (1 << stored) - 1)
        )
        low, high = min(low, ends[0]), max(high, ends[1])
    for name in ("uint8", "int16", "uint16", "int32"):
        limits = np.iinfo(name)
        if limits.min <= low and high <= limits.max:
            return np.dtype(name)
    return np.dtype(np.float32)


def _rescaled(plane: np.ndarray, frame: Frame, dtype: np.dtype[Any]) -> np.ndarray:
    if (frame.slope, frame.intercept) == (1.0, 0.0):
        return plane.astype(dtype, copy=False)
    return np.asarray((plane.astype(np.float64) * frame.slope + frame.intercept).astype(dtype))


def _straightened(values: np.ndarray, layout: Layout) -> np.ndarray:
    """Each slice moved within its plane, linearly; beyond its edges its volume's least value."""
    count = values.shape[2]
    out = np.full((*layout.shape[:2], count), values.min(), values.dtype, order="F")
    for n in range(count):
        whole = np.floor(layout.shifts_vox[n] + SAME_VOX)
        (left, top), (part_i, part_j) = whole.astype(int), layout.shifts_vox[n] - whole
        plane = _as(_moved(_moved(values[:, :, n], part_i, 0), part_j, 1), values.dtype)
        out[left : left + plane.shape[0], top : top + plane.shape[1], n] = plane
    return out


def _moved(plane: np.ndarray, part: float, axis: int) -> np.ndarray:
    """The plane moved by a part of a voxel along an axis, one voxel longer."""
    if part <= SAME_VOX:
        return plane
    before = np.pad(plane, [(1, 0) if n == axis else (0, 0) for n in (0, 1)], mode="edge")
    after = np.pad(plane, [(0, 1) if n == axis else (0, 0) for n in (0, 1)], mode="edge")
    return np.asarray(part * before.astype(np.float32) + (1 - part) * after.astype(np.float32))


def _evened(values: np.ndarray, layout: Layout) -> np.ndarray:
    """Linear between the two slices around each place."""
    out = np.empty((*values.shape[:2], layout.shape[2]), values.dtype, order="F")
    places = layout.places_vox
    for k in range(layout.shape[2]):
        above = int(np.clip(np.searchsorted(places, k), 1, len(places) - 1))
        share = (k - places[above - 1]) / (places[above] - places[above - 1])
        share = float(np.clip(share, 0, 1))
        plane = (1 - share) * values[:, :, above - 1].astype(np.float32)
        out[:, :, k] = _as(plane + share * values[:, :, above].astype(np.float32), values.dtype)
    return out


def _as(plane: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    return np.asarray((np.rint(plane) if dtype.kind in "iu" else plane).astype(dtype))
