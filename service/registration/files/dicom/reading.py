"""A volume out of DICOM files: gate, headers, stacks, grid, pixels.

What strangers sent is parsed in a child process, see child.py; here it is parsed in this one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from service.errors import (
    InvalidDicomError,
    LocaliserError,
    NoDicomError,
    SeriesAmbiguousError,
    SeriesNotFoundError,
)
from service.registration.files.dicom.frames import Frame
from service.registration.files.dicom.gate import check_file, has_magic
from service.registration.files.dicom.mosaic import is_mosaic, mosaic_of, tile, unfolded
from service.registration.files.dicom.pixels import planes_of, value_type, values_on
from service.registration.files.dicom.planes import frames_of
from service.registration.files.dicom.spacing import Layout, layout_of
from service.registration.files.dicom.stacks import Stack, stacks_of
from service.registration.files.limits import Limits
from service.registration.files.orientation import sound_grid
from service.registration.grid import Grid
from service.registration.volume import Volume

MOST_FILES = 20_000


@dataclass(frozen=True)
class Found:
    """What DICOM files hold: the volumes that can be read, and what was passed over."""

    files: tuple[Path, ...]
    headers: tuple[Any, ...]  # of each file, without pixels; None of what was passed over
    stacks: tuple[Stack, ...]
    mosaics: frozenset[int]  # places in `files`
    warnings: tuple[str, ...]


def find_volumes(files: Sequence[Path]) -> Found:
    """Every volume in the files. Other files, objects and localisers are passed over.

    Raises:
        NoDicomError: If there is no DICOM image.
        LocaliserError: If there are localisers only.
        InvalidFileError: If a DICOM file is damaged or may not be parsed.
    """
    dicom = tuple(path for path in files if _is_dicom(path))
    frames: list[Frame] = []
    headers: list[Any] = [None] * len(dicom)
    mosaics: set[int] = set()
    skipped, localisers = 0, 0
    for n, path in enumerate(dicom):
        if not check_file(path).has_pixels:
            skipped += 1
            continue
        dataset = _header(path)
        if "LOCALIZER" in [str(part).upper() for part in dataset.get("ImageType") or []]:
            localisers += 1
            continue
        headers[n], found = dataset, frames_of(dataset, n)
        if is_mosaic(dataset):
            mosaics.add(n)
            found = unfolded(found[0], mosaic_of(dataset))
        frames.extend(found)
    if not frames:
        raise LocaliserError if localisers else NoDicomError
    warnings = []
    if localisers:
        warnings.append(f"{localisers} localisers were left out.")
    if skipped:
        warnings.append(f"{skipped} DICOM objects without an image were left out.")
    stacks = tuple(_stacks(frames, mosaics))
    return Found(dicom, tuple(headers), stacks, frozenset(mosaics), tuple(warnings))


def _stacks(frames: list[Frame], mosaics: set[int]) -> list[Stack]:
    """Every mosaic is a volume of its own; all other frames are stacked."""
    stacks = stacks_of(frame for frame in frames if frame.file not in mosaics)
    for n in sorted(mosaics):
        stacks.extend(stacks_of(frame for frame in frames if frame.file == n))
    return stacks


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return has_magic(file.read(132))


def _header(path: Path) -> Any:
    """The data set without its pixels; what a library finds wrong is told without its words."""
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        dataset.get("ImageType")
    except Exception as error:  # pydicom raises many kinds, with values in their text
        raise InvalidDicomError("The DICOM file cannot be parsed; export it again.") from error
    return dataset


def chosen(found: Found, series: str | None) -> Stack:
    """The one volume, or the one that was asked for by series UID or by its number from 1.

    Raises:
        SeriesAmbiguousError: If there are several; `errors` lists them.
        SeriesNotFoundError: If there is no such one.
    """
    if series is None:
        if len(found.stacks) == 1:
            return found.stacks[0]
        raise SeriesAmbiguousError(
            f"The files hold {len(found.stacks)} volumes; choose one by its number.",
            errors=_listed(found),
        )
    for n, stack in enumerate(found.stacks):
        if series in (str(n + 1), stack.first.kind.series):
            return stack
    raise SeriesNotFoundError(
        f"The files hold {len(found.stacks)} volumes, and none is the one that was asked for.",
        errors=_listed(found),
    )


def _listed(found: Found) -> tuple[dict[str, Any], ...]:
    return tuple(
        {"field": str(n + 1), "detail": described(stack)} for n, stack in enumerate(found.stacks)
    )


def described(stack: Stack) -> str:
    """What tells a volume apart from others, without a word about the patient."""
    kind = stack.first.kind
    parts = [f"{kind.columns} x {kind.rows} x {len(stack.frames)} voxels"]
    parts += [f"{name} {value}" for name, value in stack.apart]
    return ", ".join(parts)


def grid_of(stack: Stack, limits: Limits, warnings: list[str]) -> Grid:
    """The grid that a volume would have, from its headers alone.

    Raises:
        VolumeTooLargeError: If it has more voxels than allowed.
        InvalidFileError: If the slices make no volume.
    """
    return _laid_out(stack, limits, warnings)[1]


def read_stack(found: Found, stack: Stack, limits: Limits, warnings: list[str]) -> Volume:
    """Read the pixels of a volume onto its grid.

    Raises:
        VolumeTooLargeError: If it has more voxels than allowed; nothing was decoded then.
        InvalidFileError: If a slice cannot be decoded, or the slices make no volume.
    """
    layout, grid = _laid_out(stack, limits, warnings)
    return Volume(values_on(layout, stack, _planes(found, stack)), grid)


def _laid_out(stack: Stack, limits: Limits, warnings: list[str]) -> tuple[Layout, Grid]:
    layout = layout_of(stack)
    limits.require(layout.shape, value_type(stack).itemsize)
    warnings.extend(layout.warnings)
    return layout, sound_grid(layout.shape, layout.affine, warnings)


def _planes(found: Found, stack: Stack) -> Iterator[np.ndarray]:
    if stack.first.file not in found.mosaics:
        yield from planes_of(stack, found.files)
        return
    kind, first = stack.first.kind, stack.first
    image = Stack((frames_of(found.headers[first.file], first.file)[0],))
    whole = next(planes_of(image, found.files))
    for frame in stack.frames:
        yield tile(whole, frame.number, kind.rows, kind.columns)
