"""NRRD with its data attached: the gate that a volume must pass.

Source: Definition of NRRD File Format, teem.sourceforge.net/nrrd/format.html; sections in brackets.
"""

import re
from dataclasses import dataclass

import numpy as np

from service.errors import (
    BadDimensionsError,
    BadOffsetError,
    BadSpacingError,
    HeaderInconsistentError,
    NoOrientationError,
    NotOneVolumeError,
    UnsupportedDatatypeError,
    UnsupportedFormatError,
)
from service.registration.files.content import Content
from service.registration.files.header import ByteOrder, Encoding, Header
from service.registration.files.limits import Limits
from service.registration.files.orientation import check_finite, sound_grid
from service.registration.files.text import header_text, integers, numbers

MAGIC = re.compile(rb"NRRD000[1-5]\r?\n")
TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": (
        "longlong", "long long", "long long int", "signed long long", "signed long long int",
        "int64", "int64_t",
    ),
    "u8": (
        "ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t",
    ),
    "f4": ("float",),
    "f8": ("double",),
}  # fmt: skip
DTYPES = {name: np.dtype(code) for code, names in TYPES.items() for name in names}
ENCODINGS: dict[str, Encoding] = {"raw": "raw", "gzip": "gzip", "gz": "gzip"}
SPACES = {
    "right-anterior-superior": (1, 1, 1), "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1), "las": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1), "lps": (-1, -1, 1),
}  # fmt: skip
SPATIAL_KINDS = {"domain", "space", "???", "none"}
MILLIMETRES = {"mm", "millimeter", "millimeters", "millimetre", "millimetres"}

Fields = dict[str, str]


def is_nrrd(start: bytes) -> bool:
    return MAGIC.match(start) is not None


def volume_header(content: Content, limits: Limits, *, is_gzipped: bool) -> tuple[Header, Content]:
    """Check that the file holds one scalar volume.

    Returns:
        The header, and the content where the voxels begin, decompressed.

    Raises:
        InvalidFileError: Its subclass says what is wrong.
    """
    text = header_text(content, re.compile(rb"\r?\n\r?\n"))
    fields = _fields(text)
    warnings: list[str] = []
    shape = _shape(fields)
    dtype = _dtype(fields)
    limits.require(shape, dtype.itemsize)
    encoding = _encoding(fields)
    frame = _frame(fields, warnings)
    byte_order: ByteOrder = "big" if fields.get("endian", "").lower() == "big" else "little"
    header = Header(
        format="nrrd",
        grid=sound_grid(shape, frame.affine(), warnings),
        dtype=dtype,
        byte_order=byte_order,
        data_offset=content.position,
        is_gzipped=is_gzipped,
        encoding=encoding,
        itk_header=_itk_header(shape, dtype, byte_order, frame),
        warnings=tuple(warnings),
    )
    return header, content if encoding == "raw" else content.inflated()


def _fields(text: str) -> Fields:
    """The fields by name; comments and key/value pairs, which may name a patient, are dropped."""
    fields: Fields = {}
    for line in text.split("\n")[1:]:
        name, colon, value = line.partition(":")
        if line.startswith("#") or not colon or value.startswith("="):
            continue
        name = name.strip().lower()
        if name in fields:
            raise HeaderInconsistentError("The NRRD header states a field twice. Write it again.")
        fields[name] = value.strip()
    return fields


def _shape(fields: Fields) -> tuple[int, int, int]:
    rank, sizes = integers(fields.get("dimension", "")), integers(fields.get("sizes", ""))
    if rank is None or sizes is None or len(rank) != 1 or len(sizes) != rank[0]:
        raise BadDimensionsError(
            "The NRRD header's dimension and sizes are missing or do not fit. Write it again."
        )
    if min(sizes) < 1:
        raise BadDimensionsError("The NRRD header announces an axis without voxels.")
    kinds = fields.get("kinds", "").lower().split()
    if len(sizes) != 3 or not set(kinds) <= SPATIAL_KINDS or "none" in _directions(fields):
        raise NotOneVolumeError(
            f"The file holds {len(sizes)} axes, not all of them in space: a time series, channels "
            "or a vector field. Send one volume of it."
        )
    i, j, k = sizes
    return i, j, k


def _directions(fields: Fields) -> list[str]:
    return re.findall(r"none|\([^()]*\)", fields.get("space directions", "").lower())


def _dtype(fields: Fields) -> np.dtype[np.generic]:
    dtype = DTYPES.get(" ".join(fields.get("type", "").lower().split()))
    if dtype is None:
        raise UnsupportedDatatypeError(
            "The voxels are of a type that this service does not read. "
            "Convert them to 8- to 64-bit whole numbers, float or double."
        )
    if dtype.itemsize > 1 and fields.get("endian", "").lower() not in ("little", "big"):
        raise HeaderInconsistentError("The NRRD header does not state its endian. Write it again.")
    return dtype


def _encoding(fields: Fields) -> Encoding:
    if "data file" in fields or "datafile" in fields:
        raise UnsupportedFormatError(
            "The NRRD header's voxels are in another file. Save header and voxels as one .nrrd."
        )
    encoding = ENCODINGS.get(fields.get("encoding", "").lower())
    if encoding is None:
        raise UnsupportedFormatError(
            "The NRRD file's encoding is not read here. Save it as raw or gzip."
        )
    for name in ("line skip", "lineskip", "byte skip", "byteskip"):
        if fields.get(name, "0") != "0":
            raise BadOffsetError(
                "The NRRD file skips bytes before its voxels. Save it again without a skip."
            )
    return encoding


@dataclass(frozen=True, eq=False)
class _Frame:
    """[Space and orientation information] Each row is an axis of the array, in that space."""

    space: str
    axes: np.ndarray
    origin: np.ndarray

    def affine(self) -> np.ndarray:
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = self.axes.T, self.origin
        check_finite(affine)
        return np.diag([*SPACES[self.space], 1.0]) @ affine


def _frame(fields: Fields, warnings: list[str]) -> _Frame:
    space = fields.get("space", "").lower()
    axes = [_vector(word) for word in _directions(fields)]
    if space not in SPACES or len(axes) != 3:
        raise NoOrientationError(
            "The NRRD header does not say how the voxels lie in space: it needs a space such as "
            "left-posterior-superior and space directions. Save it with 3D Slicer or ITK."
        )
    units = re.findall(r'"([^"]*)"', fields.get("space units", "").lower())
    if not set(units) <= MILLIMETRES:
        raise BadSpacingError("The NRRD file's space is not in millimetres. Save it in those.")
    if "space origin" not in fields:
        warnings.append("The header states no origin; the first voxel was put at 0, 0, 0.")
    return _Frame(space, np.array(axes), _vector(fields.get("space origin", "(0,0,0)")))


def _itk_header(
    shape: tuple[int, int, int], dtype: np.dtype[np.generic], byte_order: ByteOrder, frame: _Frame
) -> bytes:
    lines = [
        "NRRD0005",
        f"type: {TYPES[dtype.str[1:]][0]}",
        "dimension: 3",
        f"space: {frame.space}",
        f"sizes: {' '.join(map(str, shape))}",
        f"space directions: {' '.join(map(_vector_text, frame.axes))}",
        f"endian: {byte_order}",
        "encoding: raw",
        f"space origin: {_vector_text(frame.origin)}",
    ]
    return ("\n".join(lines) + "\n\n").encode("ascii")


def _vector_text(values: np.ndarray) -> str:
    return f"({','.join(map(repr, values.tolist()))})"


def _vector(word: str) -> np.ndarray:
    values = numbers(word.strip().strip("()").replace(",", " ").split(), allow_non_finite=True)
    if values is None or len(values) != 3:
        raise HeaderInconsistentError(
            "A vector in the NRRD header does not have three numbers. Write it again."
        )
    return values
