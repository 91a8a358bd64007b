"""The one segmentation, structure set or structured report among DICOM files."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from service.errors import InvalidDicomError, NoDicomError, SeriesAmbiguousError
from service.registration.files.dicom.contours import is_structure_set, read_contours
from service.registration.files.dicom.gate import check_file, has_magic
from service.registration.files.dicom.marks import is_report, read_marks
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
    return read(dataset, grid, warnings)


def marks(files: Sequence[Path]) -> np.ndarray:
    """The points of a structured report, (n, 3) RAS mm.

    Raises:
        InvalidFileError: Its subclass says what is wrong.
    """
    return read_marks(_the_one(files, is_report, "DICOM structured report"))


def _the_one(files: Sequence[Path], is_wanted: Callable[[Any], bool], what: str) -> Any:
    found = []
    for path in files:
        with path.open("rb") as file:
            if not has_magic(file.read(132)):
                continue
        check_file(path)
        dataset = _parsed(path)
        if is_wanted(dataset):
            found.append(dataset)
    if not found:
        raise NoDicomError(f"There is no {what} inside.")
    if len(found) > 1:
        raise SeriesAmbiguousError(f"There are {len(found)} of them; send one {what}.")
    return found[0]


def _parsed(path: Path) -> Any:
    try:
        dataset = pydicom.dcmread(path)
        dataset.get("SOPClassUID")
    except Exception as error:  # pydicom raises many kinds, with values in their text
        raise InvalidDicomError("The DICOM file cannot be parsed; export it again.") from error
    return dataset
