"""The numbers in a NIfTI header, both versions and byte orders, and whether they make sense.

Only the fields that matter are ever read: the header's texts may hold a patient's name.

Source: nifti1.h and nifti2.h of the NIfTI Data Format Working Group, nifti.nimh.nih.gov.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from service.errors import (
    BadDimensionsError,
    BadOffsetError,
    BadScalingError,
    HeaderInconsistentError,
    TruncatedFileError,
    UnsupportedDatatypeError,
    UnsupportedFormatError,
)

NIFTI_1 = np.dtype(
    {
        "names": [
            "dim", "intent_code", "datatype", "bitpix", "pixdim", "vox_offset", "scl_slope",
            "scl_inter", "xyzt_units", "qform_code", "sform_code", "quatern", "qoffset", "srow",
            "magic",
        ],
        "formats": [
            "(8,)<i2", "<i2", "<i2", "<i2", "(8,)<f4", "<f4", "<f4", "<f4", "u1", "<i2", "<i2",
            "(3,)<f4", "(3,)<f4", "(3,4)<f4", "V4",
        ],
        "offsets": [40, 68, 70, 72, 76, 108, 112, 116, 123, 252, 254, 256, 268, 280, 344],
        "itemsize": 348,
    }
)  # fmt: skip
NIFTI_2 = np.dtype(
    {
        "names": [
            "magic", "datatype", "bitpix", "dim", "pixdim", "vox_offset", "scl_slope", "scl_inter",
            "qform_code", "sform_code", "quatern", "qoffset", "srow", "xyzt_units", "intent_code",
        ],
        "formats": [
            "V8", "<i2", "<i2", "(8,)<i8", "(8,)<f8", "<i8", "<f8", "<f8", "<i4", "<i4",
            "(3,)<f8", "(3,)<f8", "(3,4)<f8", "<i4", "<i4",
        ],
        "offsets": [4, 12, 14, 16, 104, 168, 176, 184, 344, 348, 352, 376, 400, 500, 504],
        "itemsize": 540,
    }
)  # fmt: skip
LAYOUTS = {348: NIFTI_1, 540: NIFTI_2}
MAGICS = {348: b"n+1\0", 540: b"n+2\0\r\n\x1a\n"}
PAIR_MAGICS = {348: b"ni1\0", 540: b"ni2\0\r\n\x1a\n"}

DATATYPES = {
    2: np.uint8, 4: np.int16, 8: np.int32, 16: np.float32, 64: np.float64,
    256: np.int8, 512: np.uint16, 768: np.uint32, 1024: np.int64, 1280: np.uint64,
}  # fmt: skip
COLOURS, COMPLEX = (128, 2304), (32, 1792, 2048)

EXTENDER_BYTES = 4
MOST_OFFSET = 16 << 20  # extensions are text and small protocols


@dataclass(frozen=True, eq=False)
class NiftiHeader:
    """The fields of a header as numbers; `dim` and `pixdim` keep the standard's numbering."""

    version: Literal[1, 2]
    byte_order: Literal["little", "big"]
    dim: tuple[int, ...]
    pixdim: tuple[float, ...]
    datatype: int
    bitpix: int
    vox_offset: float
    slope: float
    inter: float
    units: int
    intent_code: int
    qform_code: int
    sform_code: int
    quaternion: np.ndarray
    qoffset: np.ndarray
    srow: np.ndarray

    @property
    def size(self) -> int:
        """Bytes of the header itself."""
        return 348 if self.version == 1 else 540


def is_nifti(start: bytes) -> bool:
    """Whether the first bytes of a file look like NIfTI, or like Analyze, its elder."""
    return _announced_size(start) is not None or start[344:347] in (b"n+1", b"ni1")


def _announced_size(start: bytes) -> tuple[int, Literal["little", "big"]] | None:
    for order in ("little", "big"):
        size = int.from_bytes(start[:4], order)
        if size in LAYOUTS:
            return size, order
    return None


def parse(start: bytes) -> NiftiHeader:
    """The numbers of the header that a file starts with.

    Raises:
        HeaderInconsistentError: If the header's length is not one of NIfTI's.
        UnsupportedFormatError: If it is Analyze, or one half of a pair of files.
        TruncatedFileError: If the file is shorter than its header.
    """
    announced = _announced_size(start)
    if announced is None:
        raise HeaderInconsistentError(
            "The header's length field is neither 348 (NIfTI-1) nor 540 (NIfTI-2). "
            "Write the volume again with a current tool."
        )
    size, byte_order = announced
    if len(start) < size + EXTENDER_BYTES:
        raise TruncatedFileError("The file ends within its header. Send the whole file again.")
    layout = LAYOUTS[size] if byte_order == "little" else LAYOUTS[size].newbyteorder(">")
    raw = np.frombuffer(start, layout, 1)[0]
    _check_magic(bytes(raw["magic"]), size)
    return NiftiHeader(
        version=1 if size == 348 else 2,
        byte_order=byte_order,
        dim=tuple(int(n) for n in raw["dim"]),
        pixdim=tuple(float(x) for x in raw["pixdim"]),
        datatype=int(raw["datatype"]),
        bitpix=int(raw["bitpix"]),
        vox_offset=raw["vox_offset"].item(),
        slope=float(raw["scl_slope"]),
        inter=float(raw["scl_inter"]),
        units=int(raw["xyzt_units"]),
        intent_code=int(raw["intent_code"]),
        qform_code=int(raw["qform_code"]),
        sform_code=int(raw["sform_code"]),
        quaternion=raw["quatern"].astype(np.float64),
        qoffset=raw["qoffset"].astype(np.float64),
        srow=raw["srow"].astype(np.float64),
    )


def _check_magic(magic: bytes, size: int) -> None:
    if magic == MAGICS[size]:
        return
    if magic == PAIR_MAGICS[size]:
        raise UnsupportedFormatError(
            "This is one half of a pair of files (.hdr and .img). "
            "Convert the pair to a single .nii or .nii.gz file and send that."
        )
    raise UnsupportedFormatError(
        "This looks like an Analyze 7.5 header, which does not say left from right, or a damaged "
        "NIfTI one. Convert the volume to a single .nii or .nii.gz file and send that."
    )


def dimensions(header: NiftiHeader) -> tuple[int, ...]:
    """The lengths of the axes that the header uses.

    Raises:
        BadDimensionsError: If there are not 1 to 7 of them, or one is not positive.
    """
    count = header.dim[0]
    if not 1 <= count <= 7:
        raise BadDimensionsError(
            f"The header announces {count} dimensions; NIfTI has 1 to 7. Write the volume again."
        )
    lengths = header.dim[1 : count + 1]
    if min(lengths) < 1:
        raise BadDimensionsError(
            f"The header announces an axis of {min(lengths)} voxels; every axis needs at least "
            "one. Write the volume again."
        )
    return lengths


def voxel_type(header: NiftiHeader) -> np.dtype[np.generic]:
    """The type of one voxel, in native byte order.

    Raises:
        UnsupportedDatatypeError: If it is not a whole or real number of up to 64 bits.
        HeaderInconsistentError: If its width contradicts it.
    """
    if header.datatype not in DATATYPES:
        raise UnsupportedDatatypeError(_unsupported(header.datatype))
    dtype: np.dtype[np.generic] = np.dtype(DATATYPES[header.datatype])
    if header.bitpix != 8 * dtype.itemsize:
        raise HeaderInconsistentError(
            f"The header says {header.bitpix} bits a voxel, its data type has "
            f"{8 * dtype.itemsize}. Write the volume again."
        )
    return dtype


def _unsupported(datatype: int) -> str:
    if datatype in COLOURS:
        return "The voxels are colours (RGB). Convert the image to one grey value a voxel."
    if datatype in COMPLEX:
        return "The voxels are complex numbers. Send the magnitude image."
    return (
        "The voxels are of a type that this service does not read. "
        "Convert them to 8- to 64-bit whole numbers, float32 or float64."
    )


def data_offset(header: NiftiHeader) -> int:
    """Where the voxels begin.

    Raises:
        BadOffsetError: If it is not a whole number, within the header, or absurdly far.
    """
    least, offset = header.size + EXTENDER_BYTES, header.vox_offset
    if not np.isfinite(offset) or offset != int(offset) or not least <= offset <= MOST_OFFSET:
        raise BadOffsetError(
            f"The header must say that the voxels begin at a whole byte from {least} on, at most "
            f"{MOST_OFFSET}; it does not. Write the volume again."
        )
    return int(offset)


def scaling(header: NiftiHeader, warnings: list[str]) -> tuple[float, float]:
    """Slope and intercept; slope 0 means that there is no scaling, whatever the intercept.

    Raises:
        BadScalingError: If one is NaN or infinite.

    Source: nifti1.h, DATA SCALING: "if the scl_slope field is nonzero, then each voxel value is
    scaled".
    """
    if not np.isfinite([header.slope, header.inter]).all():
        raise BadScalingError(
            "The header's intensity scaling is NaN or infinite. "
            "Set scl_slope to 1 and scl_inter to 0, or write the volume again."
        )
    if header.slope == 0:
        if header.inter != 0:
            warnings.append("The intensity scaling has slope 0, so its intercept was ignored.")
        return 1.0, 0.0
    return header.slope, header.inter


def check_extensions(region: bytes, byte_order: Literal["little", "big"]) -> None:
    """Refuse header extensions that do not end where the voxels begin; their content is dropped.

    Args:
        region: The bytes between the header and the voxels, the four of the extender included.
        byte_order: The header's.

    Raises:
        HeaderInconsistentError: If an extension's length runs out of the region.
    """
    if region[0] == 0:
        return
    at = EXTENDER_BYTES
    while len(region) - at >= 8:
        length = int.from_bytes(region[at : at + 4], byte_order, signed=True)
        if length == 0:
            return  # padding up to the voxels
        if length < 8 or length > len(region) - at:
            break
        at += length
    if len(region) - at >= 8 or at == EXTENDER_BYTES:
        raise HeaderInconsistentError(
            "The header announces extensions that do not end where the voxels begin. "
            "Write the volume again without header extensions."
        )
