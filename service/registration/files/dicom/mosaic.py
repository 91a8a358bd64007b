"""Siemens mosaics: the slices of an EPI volume as tiles of one image.

The header's position is that of the whole image, as if it were one slice centred on the volume;
the direction of the slices and their number stand in Siemens' own header.

Source: the layout of Siemens' CSA header as nibabel describes it (nicom/siemens_csa), which the
scanner's documentation does not publish.
"""

import struct
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from service.errors import InvalidDicomError
from service.registration.files.dicom.frames import Frame, number

CSA_IMAGE_HEADER = (0x0029, 0x1010)
SLICES_IN_MOSAIC = (0x0019, 0x100A)
MOST_TAGS = 512
MOST_ITEMS = 64


@dataclass(frozen=True)
class Mosaic:
    """Tiles in rows, from the upper left."""

    slices: int
    across: int  # tiles along a row of the image
    normal: np.ndarray  # unit vector, LPS, from the first slice to the last
    spacing_mm: float


def is_mosaic(dataset: Any) -> bool:
    """Whether the image is one."""
    return "MOSAIC" in [str(part) for part in dataset.get("ImageType") or []]


def mosaic_of(dataset: Any) -> Mosaic:
    """How the tiles lie.

    Raises:
        InvalidDicomError: If Siemens' header is missing or does not say.
    """
    csa = _csa(_bytes(dataset[CSA_IMAGE_HEADER].value)) if CSA_IMAGE_HEADER in dataset else {}
    own = dataset.get(SLICES_IN_MOSAIC)
    slices = int(number(own.value if own is not None else None, 0)) or int(
        number(next(iter(csa.get("NumberOfImagesInMosaic", [])), None), 0)
    )
    normal = np.array([number(value, np.nan) for value in csa.get("SliceNormalVector", [])[:3]])
    spacing = number(dataset.get("SpacingBetweenSlices"), 0.0)
    is_turned = normal.shape == (3,) and 0.5 < np.linalg.norm(normal) < 2
    if not (1 < slices <= 1024 and is_turned and spacing):
        raise InvalidDicomError(
            "The image is a mosaic, and its private header does not say how the slices lie. "
            "Export the series without removing private elements, or as enhanced images."
        )
    return Mosaic(slices, int(np.ceil(np.sqrt(slices))), normal / np.linalg.norm(normal), spacing)


def unfolded(frame: Frame, mosaic: Mosaic) -> list[Frame]:
    """The tiles as frames; `number` counts the tiles.

    Raises:
        InvalidDicomError: If the image does not divide into them.
    """
    rows, columns = frame.kind.rows // mosaic.across, frame.kind.columns // mosaic.across
    if (rows * mosaic.across, columns * mosaic.across) != (frame.kind.rows, frame.kind.columns):
        raise InvalidDicomError("The mosaic does not divide into its slices.")
    between_rows, between_columns = frame.kind.spacing_mm
    along_row, along_column = np.array(frame.orientation[:3]), np.array(frame.orientation[3:])
    corner = (
        np.array(frame.position)
        + along_row * between_columns * (frame.kind.columns - columns) / 2
        + along_column * between_rows * (frame.kind.rows - rows) / 2
    )
    kind = replace(frame.kind, rows=rows, columns=columns)
    return [
        replace(
            frame,
            number=n,
            kind=kind,
            position=_triple(corner + n * mosaic.spacing_mm * mosaic.normal),
        )
        for n in range(mosaic.slices)
    ]


def _triple(position: np.ndarray) -> tuple[float, float, float]:
    return float(position[0]), float(position[1]), float(position[2])


def tile(plane: np.ndarray, number: int, rows: int, columns: int) -> np.ndarray:
    """One slice out of a mosaic's pixels."""
    across = plane.shape[1] // columns
    top, left = number // across * rows, number % across * columns
    return plane[top : top + rows, left : left + columns]


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else b""


def _csa(data: bytes) -> dict[str, list[str]]:
    """The values of a CSA header by name; empty if it is not one."""
    if data[:4] != b"SV10":
        return {}
    try:
        count = struct.unpack_from("<I", data, 8)[0]
        position, found = 16, {}
        for _ in range(min(count, MOST_TAGS)):
            name, _, _, _, items, _ = struct.unpack_from("<64si4siii", data, position)
            position += 84
            values = []
            for _ in range(min(items, MOST_ITEMS)):
                length = struct.unpack_from("<4i", data, position)[1]
                position += 16
                text = data[position : position + length].split(b"\0", 1)[0]
                values.append(text.decode("ascii", "replace").strip())
                position += (length + 3) // 4 * 4
            found[name.split(b"\0", 1)[0].decode("ascii", "replace")] = values
    except struct.error:
        return {}
    return found
