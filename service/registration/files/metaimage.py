"""MetaImage with its data attached (.mha): the gate that a volume must pass.

Source: MetaIO documentation, itk.org/Wiki/MetaIO/Documentation; what ITK 5.4's MetaImageIO does.
"""

import re
from dataclasses import dataclass

import numpy as np

from service.errors import (
    BadDimensionsError,
    BadOffsetError,
    BadScalingError,
    BadSpacingError,
    HeaderInconsistentError,
    NoOrientationError,
    NotOneVolumeError,
    TrailingDataError,
    UnsupportedDatatypeError,
    UnsupportedFormatError,
)
from service.registration.files.content import Content, truncated
from service.registration.files.header import Header
from service.registration.files.inflate import PADDING_BYTES
from service.registration.files.limits import Limits
from service.registration.files.orientation import LPS_TO_RAS, check_finite, sound_grid
from service.registration.files.text import header_text, integers, numbers

MAGIC = re.compile(rb"\s*(ObjectType|NDims)\s*=")
# The data begin after this line, which MetaIO writes last.
END = re.compile(rb"^[ \t]*ElementDataFile[ \t]*=[^\n]*\n", re.MULTILINE)
DTYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4",
    "MET_UINT": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # fmt: skip
MATRIX_NAMES = ("TransformMatrix", "Rotation", "Orientation")
ORIGIN_NAMES = ("Offset", "Position", "Origin")
TRUE = {"true", "1"}

Fields = dict[str, str]


def is_metaimage(start: bytes) -> bool:
    return MAGIC.match(start) is not None


def volume_header(content: Content, limits: Limits, *, is_gzipped: bool) -> tuple[Header, Content]:
    """Check that the file holds one scalar volume.

    Returns:
        The header, and the content where the voxels begin, decompressed.

    Raises:
        InvalidFileError: Its subclass says what is wrong.
    """
    fields = _fields(header_text(content, END))
    warnings: list[str] = []
    _check_layout(fields)
    shape = _shape(fields)
    dtype = _dtype(fields)
    limits.require(shape, dtype.itemsize)
    is_compressed = fields.get("CompressedData", "False").lower() in TRUE
    frame = _frame(fields)
    header = Header(
        format="metaimage",
        grid=sound_grid(shape, frame.affine(), warnings),
        dtype=dtype,
        byte_order="big" if _is_big_endian(fields) else "little",
        data_offset=content.position,
        is_gzipped=is_gzipped,
        encoding="zlib" if is_compressed else "raw",
        itk_header=_itk_header(fields, shape, frame),
        warnings=tuple(warnings),
    )
    if not is_compressed:
        return header, content
    _check_compressed_size(fields, content)
    return header, content.inflated()


def _fields(text: str) -> Fields:
    fields: Fields = {}
    for line in text.split("\n"):
        name, equals, value = line.partition("=")
        name = name.strip()
        if not equals:
            continue
        if name in fields:
            raise HeaderInconsistentError(
                "The MetaImage header states a field twice. Write it again."
            )
        fields[name] = value.strip()
    return fields


def _check_layout(fields: Fields) -> None:
    """Refuse what is not one binary image in one file, or asks for anything further."""
    if fields.get("ObjectType", "Image") != "Image":
        raise UnsupportedFormatError("The MetaIO file holds no image. Send an image.")
    if fields["ElementDataFile"] != "LOCAL":
        raise UnsupportedFormatError(
            "The MetaImage header's voxels are in another file. Save both as one .mha file."
        )
    if fields.get("BinaryData", "True").lower() not in TRUE:
        raise UnsupportedFormatError("The MetaImage's voxels are text. Save them as binary data.")
    if fields.get("HeaderSize", "0") != "0":
        raise BadOffsetError("The MetaImage skips bytes before its voxels. Save it without a skip.")
    scaling = [fields.get(f"ElementToIntensityFunction{part}") for part in ("Slope", "Offset")]
    if scaling[0] not in (None, "1") or scaling[1] not in (None, "0"):
        raise BadScalingError(
            "The MetaImage asks for intensity scaling, which most tools ignore. Save it scaled."
        )
    if fields.get("DistanceUnits", "mm").lower() not in ("mm", "?"):
        raise BadSpacingError("The MetaImage is not in millimetres. Save it in those.")


def _shape(fields: Fields) -> tuple[int, int, int]:
    rank, sizes = integers(fields.get("NDims", "")), integers(fields.get("DimSize", ""))
    channels = integers(fields.get("ElementNumberOfChannels", "1"))
    if rank is None or sizes is None or channels is None or [len(sizes)] != rank:
        raise BadDimensionsError(
            "The MetaImage's NDims and DimSize are missing or do not fit. Write it again."
        )
    if min(sizes) < 1:
        raise BadDimensionsError("The MetaImage announces an axis without voxels.")
    if len(sizes) != 3 or channels != [1]:
        raise NotOneVolumeError(
            f"The file holds an image of {len(sizes)} dimensions, or several channels: "
            "registration needs one volume. Send one."
        )
    i, j, k = sizes
    return i, j, k


def _dtype(fields: Fields) -> np.dtype[np.generic]:
    code = DTYPES.get(fields.get("ElementType", ""))
    if code is None:
        raise UnsupportedDatatypeError(
            "The voxels are of a type that this service does not read. "
            "Convert them to 8- to 64-bit whole numbers, float or double."
        )
    return np.dtype(code)


def _is_big_endian(fields: Fields) -> bool:
    names = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
    return any(fields.get(name, "False").lower() in TRUE for name in names)


def _check_compressed_size(fields: Fields, content: Content) -> None:
    size = integers(fields.get("CompressedDataSize", ""))
    if size is None or len(size) != 1:
        return  # older writers leave it out
    if content.most_bytes() < size[0]:
        raise truncated(size[0], content.most_bytes())
    if content.most_bytes() > size[0] + PADDING_BYTES:
        raise TrailingDataError(
            "The file goes on after its compressed data. Send the volume alone, as it was written."
        )


@dataclass(frozen=True, eq=False)
class _Frame:
    """The matrix holds the direction of each axis as a row, in LPS."""

    matrix: np.ndarray
    spacing_mm: np.ndarray
    origin_mm: np.ndarray

    def affine(self) -> np.ndarray:
        for values in (self.matrix, self.spacing_mm, self.origin_mm):
            check_finite(values)
        affine = np.eye(4)
        affine[:3, :3] = self.matrix.reshape(3, 3).T * self.spacing_mm
        affine[:3, 3] = self.origin_mm
        return LPS_TO_RAS @ affine


def _frame(fields: Fields) -> _Frame:
    matrix = _floats(fields, MATRIX_NAMES, 9)
    origin = _floats(fields, ORIGIN_NAMES, 3)
    spacing = _floats(fields, ("ElementSpacing",), 3)
    if matrix is None or origin is None:
        raise NoOrientationError(
            "The MetaImage does not say how the voxels lie in space: it needs TransformMatrix and "
            "Offset. Save it with ITK or 3D Slicer."
        )
    if spacing is None or not (spacing > 0).all():
        raise BadSpacingError(
            "The MetaImage's ElementSpacing is missing or not positive. Write it again."
        )
    return _Frame(matrix, spacing, origin)


def _itk_header(fields: Fields, shape: tuple[int, int, int], frame: _Frame) -> bytes:
    lines = [
        "ObjectType = Image",
        "NDims = 3",
        "BinaryData = True",
        f"BinaryDataByteOrderMSB = {_is_big_endian(fields)}",
        "CompressedData = False",
        f"TransformMatrix = {' '.join(map(repr, frame.matrix.tolist()))}",
        f"Offset = {' '.join(map(repr, frame.origin_mm.tolist()))}",
        f"ElementSpacing = {' '.join(map(repr, frame.spacing_mm.tolist()))}",
        f"DimSize = {' '.join(map(str, shape))}",
        f"ElementType = {fields['ElementType']}",
        "ElementDataFile = LOCAL",
    ]
    return ("\n".join(lines) + "\n").encode("ascii")


def _floats(fields: Fields, names: tuple[str, ...], count: int) -> np.ndarray | None:
    text = next((fields[name] for name in names if name in fields), None)
    if text is None:
        return None
    values = numbers(text.split(), allow_non_finite=True)
    if values is None or len(values) != count:
        raise HeaderInconsistentError(
            f"A field of the MetaImage header does not have {count} numbers. Write it again."
        )
    return values
