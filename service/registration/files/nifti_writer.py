"""Write NIfTI-1 files that every tool reads alike."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import numpy as np

from service.errors import UnsupportedDatatypeError
from service.registration.files.file_order import turned
from service.registration.files.gzip_writer import GzipWriter
from service.registration.files.nifti_header import DATATYPES, EXTENDER_BYTES, MAGICS, NIFTI_1
from service.registration.grid import Grid

CODES = {np.dtype(dtype): code for code, dtype in DATATYPES.items()}
IMAGE_LEVEL, FIELD_LEVEL = 1, 0
MILLIMETRES, SCANNER = 2, 1


def header_bytes(
    grid: Grid, dtype: np.dtype[np.generic], *, components: int = 1, intent_code: int = 0
) -> bytes:
    """Header and extender of a volume, or of vectors along NIfTI's fifth dimension.

    Raises:
        UnsupportedDatatypeError: If NIfTI has no code for the voxels' type.
    """
    if dtype.newbyteorder("=") not in CODES:
        raise UnsupportedDatatypeError("Voxels of this type cannot be written as NIfTI.")
    header = np.zeros((), NIFTI_1)
    rank = 3 if components == 1 else 5
    header["dim"] = (rank, *grid.shape, 1, components, 1, 1)
    header["intent_code"] = intent_code
    header["datatype"] = CODES[dtype.newbyteorder("=")]
    header["bitpix"] = 8 * dtype.itemsize
    header["pixdim"] = (-1.0 if grid.is_left_handed else 1.0, *grid.spacing_mm, 1, 1, 1, 1)
    header["vox_offset"] = NIFTI_1.itemsize + EXTENDER_BYTES
    header["scl_slope"] = 1
    header["xyzt_units"] = MILLIMETRES
    header["qform_code"] = header["sform_code"] = SCANNER
    header["quatern"] = _quaternion(grid)
    header["qoffset"] = grid.affine[:3, 3]
    header["srow"] = grid.affine[:3]
    header["magic"] = np.void(MAGICS[NIFTI_1.itemsize])
    size = NIFTI_1.itemsize.to_bytes(4, "little")
    return size + header.tobytes()[4:] + bytes(EXTENDER_BYTES)


def _quaternion(grid: Grid) -> np.ndarray:
    """(b, c, d) of the rotation nearest to the grid's axes, with a >= 0.

    Source: I. Y. Bar-Itzhack, New method for extracting the quaternion from a rotation matrix,
    J. Guidance 23(6), 2000.
    """
    directions = grid.directions * (1, 1, -1 if grid.is_left_handed else 1)
    left, _, right = np.linalg.svd(directions)
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = left @ right
    symmetric = np.array(
        [
            [xx - yy - zz, yx + xy, zx + xz, zy - yz],
            [yx + xy, yy - xx - zz, zy + yz, xz - zx],
            [zx + xz, zy + yz, zz - xx - yy, yx - xy],
            [zy - yz, xz - zx, yx - xy, xx + yy + zz],
        ]
    )
    b, c, d, a = np.linalg.eigh(symmetric)[1][:, -1]
    return np.array([b, c, d]) * (-1 if a < 0 else 1)


def in_file_order(data: np.ndarray) -> memoryview:
    """The voxels' bytes as NIfTI stores them: i runs fastest, little endian."""
    ordered = turned(data.astype(data.dtype.newbyteorder("<"), copy=False))
    return ordered.reshape(-1).view(np.uint8).data


class HashedFile:
    """A new file that knows the SHA-256 of what was written to it: no need to read it again."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open("wb")
        self._hash = hashlib.sha256()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def write(self, data: memoryview | bytes) -> int:
        """Append some more."""
        self._hash.update(data)
        return self._stream.write(data)

    @property
    def sha256(self) -> str:
        """Of what was written so far, as hexadecimal digits."""
        return self._hash.hexdigest()


def write_content(
    path: Path, parts: Iterable[memoryview | bytes], *, level: int = IMAGE_LEVEL
) -> str:
    """Write a file's content, gzipped where its name ends in .gz; gives the file's SHA-256."""
    with HashedFile(path) as stream:
        if path.suffix == ".gz":
            with GzipWriter(stream, level) as writer:
                for part in parts:
                    writer.write(part)
        else:
            for part in parts:
                stream.write(part)
        return stream.sha256
