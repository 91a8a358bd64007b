"""One frame of a DICOM image: where it lies, how its pixels become values, what volume it is of.

Positions and orientations are DICOM's: patient coordinates, LPS mm. What leaves `files/` is RAS.

Source: DICOM PS3.3 C.7.6.2.1.1 (plane), C.7.6.1.1.2 (image type), C.11.1 (rescale).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.errors import BadDimensionsError, InvalidDicomError, UnsupportedDatatypeError

# Attributes that may tell volumes of one series apart where slices share their places, the surest
# first, each with what a caller would call it. Where slices do not share places, they mean nothing:
# many scanners count acquisitions or triggers slice by slice.
KIND = "kind"
MOST_NUMBER = 1e12  # positions, spacings and slopes are far below; squares of it are finite
# Values of ImageType that others are told: code strings. What else stands there may be a name.
CODE_STRING = re.compile(r"[A-Z0-9_]{1,16}")
APART = (
    ("FrameType", KIND),
    ("ImageType", KIND),
    ("EffectiveEchoTime", "echo time (ms)"),
    ("EchoTime", "echo time (ms)"),
    ("TemporalPositionIdentifier", "time point"),
    ("TemporalPositionIndex", "time point"),
    ("TriggerTime", "trigger time (ms)"),
    ("NominalPercentageOfCardiacPhase", "cardiac phase (%)"),
    ("NominalPercentageOfRespiratoryPhase", "respiratory phase (%)"),
    ("DiffusionBValue", "b-value"),
    ("AcquisitionNumber", "acquisition"),
)


@dataclass(frozen=True)
class PixelFormat:
    """How a pixel is stored."""

    allocated: int
    stored: int
    high: int
    is_signed: bool

    @classmethod
    def of(cls, dataset: Any) -> "PixelFormat":
        """What the image pixel module says.

        Raises:
            UnsupportedDatatypeError: If it is colour, or no whole number of bytes.
        """
        if whole(dataset.get("SamplesPerPixel"), 1) != 1:
            raise UnsupportedDatatypeError(
                "The image is in colour; this service registers images of one value a voxel."
            )
        allocated = whole(dataset.get("BitsAllocated"), 0)
        stored = whole(dataset.get("BitsStored"), allocated)
        high = whole(dataset.get("HighBit"), stored - 1)
        if allocated not in (8, 16, 32) or not 0 < stored <= high + 1 <= allocated:
            raise UnsupportedDatatypeError(
                f"Pixels of {allocated} bits, {stored} of them used, are not read; send 8, 16 or "
                "32 bits."
            )
        return cls(allocated, stored, high, whole(dataset.get("PixelRepresentation"), 0) != 0)


@dataclass(frozen=True)
class Kind:
    """What the frames of one volume have in common, besides its series."""

    series: str
    frame_of_reference: str
    rows: int
    columns: int
    spacing_mm: tuple[float, float]  # between rows, between columns
    stack: str = ""


@dataclass(frozen=True)
class Frame:
    """One plane of pixels. `file` and `number` say where it is: the file's place, from 0, and the
    frame's in it.
    """

    file: int
    number: int
    kind: Kind
    position: tuple[float, float, float]
    orientation: tuple[float, float, float, float, float, float]  # along a row, along a column
    pixels: PixelFormat
    slope: float
    intercept: float
    thickness_mm: float  # 0 if it is not told
    order: float  # instance number, or the frame's
    apart: tuple[tuple[str, str], ...]  # what may tell volumes apart: name, value

    @property
    def normal(self) -> np.ndarray:
        """The unit vector that rows and columns make a right-handed system with."""
        row, column = np.array(self.orientation[:3]), np.array(self.orientation[3:])
        return np.asarray(np.cross(row, column))


def numbers(value: Any, count: int, what: str) -> tuple[float, ...]:
    """`count` finite numbers out of an attribute.

    Raises:
        InvalidDicomError: If it does not hold them.
    """
    try:
        found = tuple(float(part) for part in value)
    except (OverflowError, TypeError, ValueError):
        found = ()
    if len(found) != count or not all(abs(part) <= MOST_NUMBER for part in found):  # nor NaN
        raise InvalidDicomError(f"The image's {what} is missing or is not {count} numbers.")
    return found


def rescale_of(source: Any) -> tuple[float, float]:
    """Slope and intercept; 1 and 0 where there are none.

    Raises:
        InvalidDicomError: If one is not finite, or so large that values would not be.
    """
    told = source.get("RescaleSlope"), source.get("RescaleIntercept")
    slope, intercept = (
        otherwise if value in (None, "") else numbers([value], 1, "rescale slope or intercept")[0]
        for value, otherwise in zip(told, (1.0, 0.0), strict=True)
    )
    return slope, intercept


def number(value: Any, otherwise: float) -> float:
    """A finite number out of an attribute; what stands for an empty one."""
    try:
        found = float(value)
    except (OverflowError, TypeError, ValueError):
        return otherwise
    return found if np.isfinite(found) else otherwise


def whole(value: Any, otherwise: int) -> int:
    """A whole number out of an attribute; what stands for an empty one."""
    return int(number(value, otherwise))


def size_of(dataset: Any) -> tuple[int, int]:
    """Rows and columns.

    Raises:
        BadDimensionsError: If one is zero or missing.
    """
    rows, columns = whole(dataset.get("Rows"), 0), whole(dataset.get("Columns"), 0)
    if rows < 1 or columns < 1:
        raise BadDimensionsError("The image has no rows or no columns.")
    return rows, columns


def unit_orientation(value: Any) -> tuple[float, float, float, float, float, float]:
    """Directions along a row and along a column, of length 1 and at right angles.

    Raises:
        InvalidDicomError: If they are not, by more than rounding explains.
    """
    found = np.array(numbers(value, 6, "orientation")).reshape(2, 3)
    lengths = np.linalg.norm(found, axis=1)
    if np.abs(lengths - 1).max() > 1e-2 or abs(found[0] @ found[1]) > 1e-2:
        raise InvalidDicomError(
            "The image's orientation is not two directions at right angles. Export the series "
            "again."
        )
    row = found[0] / lengths[0]
    column = found[1] - (found[1] @ row) * row
    column /= np.linalg.norm(column)
    return (*map(float, row), *map(float, column))  # type: ignore[return-value]


def apart_of(datasets: Sequence[Any]) -> tuple[tuple[str, str], ...]:
    """What may tell volumes of one series apart, each from the first data set that says it."""
    found: dict[str, str] = {}
    for keyword, name in APART:
        for dataset in datasets:
            value = dataset.get(keyword)
            if value not in (None, "") and name not in found:
                found[name] = words_of(value) if name == KIND else f"{number(value, 0.0):g}"
    return tuple(found.items())


def words_of(image_type: Any) -> str:
    """The values of ImageType that tell volumes apart: original or derived, magnitude or phase."""
    parts = [image_type] if isinstance(image_type, str) else [str(part) for part in image_type]
    told = (part if CODE_STRING.fullmatch(part) else "OTHER" for part in parts[:1] + parts[2:4])
    return " ".join(told).lower()
