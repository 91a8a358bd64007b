"""The one segmentation, structure set or structured report among DICOM files."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from service.errors import NoDicomError, SeriesAmbiguousError
from service.registration.files.dicom import earning
from service.registration.files.dicom.contours import is_structure_set, read_contours
from service.registration.files.dicom.gate import check_file, has_magic
from service.registration.files.dicom.marks import is_report, read_marks
from service.registration.files.dicom.parsing import parsing
from service.registration.files.dicom.segments import is_segmentation, read_segments
from service.registration.grid import Grid


def label_map(files: Sequence[Path], grid: Grid, warnings: list[str]) -> np.ndarray:
    """The labels of a segmentation or a structure set on the grid of their image.

    Raises:
        InvalidFileError: Its subclass says what is wrong.
        GridMismatchError: If they do not meet the image in space.
    """
    dataset = _the_one(
        files,
        lambda one: is_segmentation(one) or is_structure_set(one),
        "DICOM segmentation or structure set",
    )
    read = read_segments if is_segmentation(dataset) else read_contours
    with parsing():
        return read(dataset, grid, warnings)


def marks(files: Sequence[Path]) -> np.ndarray:
    """The points of a structured report, (n, 3) RAS mm.

    Raises:
        InvalidFileError: Its subclass says what is wrong.
    """
    report = _the_one(files, is_report, "DICOM structured report")
    with parsing():
        return read_marks(report)


def _the_one(files: Sequence[Path], is_wanted: Callable[[Any], bool], what: str) -> Any:
    found = []
    for path in files:
        with path.open("rb") as file:
            if not has_magic(file.read(132)):
                continue
        check_file(path)
        earning.has_read(path.stat().st_size)
        with parsing():
            dataset = pydicom.dcmread(path)
            if is_wanted(dataset):
                found.append(dataset)
    if not found:
        raise NoDicomError(f"There is no {what} inside.")
    if len(found) > 1:
        raise SeriesAmbiguousError(f"There are {len(found)} of them; send one {what}.")
    return found[0]
