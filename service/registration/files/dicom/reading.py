"""A volume out of DICOM files: gate, headers, stacks, grid, pixels.

What strangers sent is parsed in a child process, see child.py; here it is parsed in this one.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from service.errors import DuplicateSlicesError, InvalidFileError, LocaliserError, NoDicomError
from service.registration.files.dicom import earning, listing
from service.registration.files.dicom.frames import Frame
from service.registration.files.dicom.gate import check_file, has_magic
from service.registration.files.dicom.mosaic import is_mosaic, mosaic_of, tile, unfolded
from service.registration.files.dicom.parsing import parsing
from service.registration.files.dicom.patient import patient_of, require_one_patient
from service.registration.files.dicom.pixels import planes_of, value_type, values_on
from service.registration.files.dicom.planes import frames_of, is_capture
from service.registration.files.dicom.segments import CLASSES as SEGMENTATIONS
from service.registration.files.dicom.spacing import Layout, layout_of
from service.registration.files.dicom.stacks import Stack, stacks_of
from service.registration.files.limits import Limits
from service.registration.files.orientation import sound_grid
from service.registration.grid import Grid
from service.registration.volume import Volume

# Objects with pixels that are no image of a patient: segmentations, and doses of radiotherapy.
NO_IMAGES = SEGMENTATIONS | {"1.2.840.10008.5.1.4.1.1.481.2"}
PASSED = {
    "localisers": "localisers were left out.",
    "objects": "DICOM objects without an image were left out.",
    "captures": "screen captures were left out.",
    "copies": "files came twice; the copies were left out.",
}


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
        DuplicateSlicesError: If two different files say that they are the same object.
        InvalidFileError: If a DICOM file is damaged or may not be parsed.
    """
    dicom = tuple(path for path in files if _is_dicom(path))
    search = _Search(dicom)
    for n in range(len(dicom)):
        with _told_which(n, len(dicom)):
            search.look_at(n)
    if not search.frames:
        raise LocaliserError if search.passed["localisers"] else NoDicomError
    stacks = tuple(_stacks(search.frames, search.mosaics))
    headers, mosaics = tuple(search.headers), frozenset(search.mosaics)
    return Found(dicom, headers, stacks, mosaics, tuple(search.warnings()))


@contextmanager
def _told_which(n: int, count: int) -> Iterator[None]:
    """Say in errors which of several files is at fault: by number, as names may be private."""
    try:
        yield
    except InvalidFileError as error:
        if count > 1 and not error.errors:
            detail = f"It is DICOM file {n + 1} of {count}, in the order of their names."
            error.errors = ({"field": f"file {n + 1}", "detail": detail},)
        raise


class _Search:
    """Goes through files, one at a time, and keeps what makes volumes."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        self._by_uid: dict[str, int] = {}
        self.frames: list[Frame] = []
        self.headers: list[Any] = [None] * len(files)
        self.mosaics: set[int] = set()
        self.passed = Counter[str]()

    def look_at(self, n: int) -> None:
        """Take a file in, or pass it over."""
        has_pixels = check_file(self._files[n]).has_pixels
        earning.has_read(self._files[n].stat().st_size)
        if not has_pixels:
            self.passed["objects"] += 1
            return
        dataset = header_of(self._files[n])
        with parsing():
            reason = self._reason_to_pass(dataset, n)
            if reason:
                self.passed[reason] += 1
                return
            found = frames_of(dataset, n)
            if is_mosaic(dataset):
                self.mosaics.add(n)
                found = unfolded(found[0], mosaic_of(dataset))
        self.headers[n] = dataset
        self.frames.extend(found)

    def _reason_to_pass(self, dataset: Any, n: int) -> str:
        if str(dataset.get("SOPClassUID", "")) in NO_IMAGES:
            return "objects"
        if "LOCALIZER" in [str(part).upper() for part in dataset.get("ImageType") or []]:
            return "localisers"
        if is_capture(dataset):
            return "captures"
        return "copies" if self._is_copy(str(dataset.get("SOPInstanceUID", "")), n) else ""

    def _is_copy(self, uid: str, n: int) -> bool:
        other = self._by_uid.setdefault(uid, n) if uid else n
        if other == n:
            return False
        if _digest(self._files[n]) != _digest(self._files[other]):
            raise DuplicateSlicesError(
                "Two files have the same SOP instance UID and are not the same. Send each slice "
                "once."
            )
        return True

    def warnings(self) -> Iterator[str]:
        """A sentence for each kind of file that was passed over."""
        for reason, sentence in PASSED.items():
            if count := self.passed[reason]:
                yield f"{count} {sentence}"


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _stacks(frames: list[Frame], mosaics: set[int]) -> list[Stack]:
    """Every mosaic is a volume of its own; all other frames are stacked."""
    stacks = stacks_of(frame for frame in frames if frame.file not in mosaics)
    for n in sorted(mosaics):
        stacks.extend(stacks_of(frame for frame in frames if frame.file == n))
    return stacks


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return has_magic(file.read(132))


def header_of(path: Path) -> Any:
    """The data set without its pixels."""
    with parsing():
        return pydicom.dcmread(path, stop_before_pixels=True)


def chosen(found: Found, series: str | None) -> Stack:
    """The one volume, or the one that was asked for, see listing.py.

    Raises:
        InvalidDicomError: If there are several and none was asked for, or there is no such one.
        MixedSeriesError: If its slices are of different patients.
    """
    with parsing():
        stack = listing.chosen(found.stacks, found.headers, series)
    files = dict.fromkeys(frame.file for frame in stack.frames)
    with parsing():
        require_one_patient([patient_of(found.headers[file]) for file in files])
    return stack


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
    earning.makes(math.prod(layout.shape) * value_type(stack).itemsize)
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
    with parsing():
        image = Stack((frames_of(found.headers[first.file], first.file)[0],))
    whole = next(planes_of(image, found.files))
    for frame in stack.frames:
        yield tile(whole, frame.number, kind.rows, kind.columns)
