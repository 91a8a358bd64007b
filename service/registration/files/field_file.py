"""The displacement field file that ITK, ANTs and 3D Slicer read, and nothing that they misread.

NIfTI-1, shape (X, Y, Z, 1, 3), float32, millimetres. Under intent 1007 (VECTOR) the vectors are
LPS, as ITK takes them; under 1006 (DISPVECT) they are RAS, which ITK turns. A 4-D file or one
without an intent says neither, and other tools read it wrongly without a word: it is refused.

Source: nifti1.h, NIFTI_INTENT codes; itk::NiftiImageIO, which turns 1006 and not 1007.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np

from service.errors import BadTransformError, ShearedAffineError
from service.registration.fields import DisplacementField
from service.registration.files.file_order import turned_vectors
from service.registration.files.gzip_writer import THREADS
from service.registration.files.header import faults_of
from service.registration.files.limits import Limits
from service.registration.files.nifti import open_nifti, pass_to_voxels
from service.registration.files.nifti_header import (
    NiftiHeader,
    data_offset,
    dimensions,
    scaling,
    voxel_type,
)
from service.registration.files.nifti_orientation import grid_of
from service.registration.files.nifti_writer import (
    FIELD_LEVEL,
    MILLIMETRES,
    header_bytes,
    write_content,
)
from service.registration.files.orientation import EXACT_SHEAR

AT_ONCE_BYTES = 1 << 27  # a larger field is turned a component at a time, which takes longer
DISPVECT, VECTOR = 1006, 1007
LENGTH_UNIT, UNKNOWN_UNIT = 7, 0  # the bits of xyzt_units that tell it; 0 is taken as millimetres
LPS = np.array([-1.0, -1.0, 1.0], dtype=np.float32)


def write_field(path: Path, field: DisplacementField) -> str:
    """Write a displacement field under intent 1007: LPS millimetres on the fixed grid.

    Where the name ends in .gz the vectors are stored in gzip as they are: compressed, they would
    lose 7 % of their size and take four times as long to write and to read, here and in every
    other tool. The same field gives the same bytes. Gives the file's SHA-256.

    Raises:
        ShearedAffineError: If the grid's axes are not at right angles, which ITK replaces.
    """
    if field.grid.shear > EXACT_SHEAR:
        raise ShearedAffineError(
            "The grid's axes are not at right angles; other tools would put the field elsewhere. "
            "Put the field on a regular grid first."
        )
    header = header_bytes(field.grid, np.dtype(np.float32), components=3, intent_code=VECTOR)
    parts: Iterable[memoryview | bytes] = chain([header], _in_file_order(field.vectors_mm))
    return write_content(path, parts, level=FIELD_LEVEL)


def read_field(path: Path, limits: Limits, field: str = "ddf") -> DisplacementField:
    """Read a displacement field that ITK, ANTs or this service wrote.

    Args:
        path: NIfTI, gzipped or not.
        limits: What is refused before anything is allocated; a voxel counts once.
        field: The part of the request that errors name.

    Raises:
        BadTransformError: If the file is not 5-D with three components, is not in millimetres, or
            does not say by intent 1007 or 1006 in which frame its vectors are.
        InvalidFileError: If the file is damaged, or its grid is no grid.
    """
    with faults_of(field), open_nifti(path) as (raw, content):
        shape = _field_shape(raw)
        dtype = _float_type(raw)
        size = 3 * limits.require(shape, dtype.itemsize)
        grid = grid_of(raw, shape, [])
        pass_to_voxels(raw, content, data_offset(raw))
        stored = content.voxels(size).view(dtype)
        content.finish()
    if raw.byte_order != "little":
        stored.byteswap(inplace=True)
    vectors = _from_file_order(stored.reshape(3, *shape[::-1]), raw.intent_code)
    if not np.isfinite(vectors).all():
        raise BadTransformError(
            "The displacement field holds values that are not finite.", field=field
        )
    return DisplacementField(vectors, grid)


def _field_shape(raw: NiftiHeader) -> tuple[int, int, int]:
    lengths = dimensions(raw)
    if len(lengths) != 5 or lengths[3:] != (1, 3):
        raise BadTransformError(
            "A displacement field is a 5-D file of shape (X, Y, Z, 1, 3). Of a 4-D file other "
            "tools cannot tell the frame of the vectors: write it as ITK or ANTs do."
        )
    if raw.units & LENGTH_UNIT not in (UNKNOWN_UNIT, MILLIMETRES):
        raise BadTransformError(
            "The field's header names metres or microns, and some tools scale its grid by them but "
            "not its vectors. Set xyzt_units to millimetres, and make grid and vectors so."
        )
    if raw.intent_code not in (DISPVECT, VECTOR):
        raise BadTransformError(
            "The file does not say in which frame its vectors are: intent_code must be 1007 (LPS, "
            "as ITK and ANTs write) or 1006 (RAS)."
        )
    i, j, k = lengths[:3]
    return i, j, k


def _float_type(raw: NiftiHeader) -> np.dtype[np.generic]:
    dtype = voxel_type(raw)
    if dtype.kind != "f" or scaling(raw, []) != (1.0, 0.0):
        raise BadTransformError(
            "A displacement field holds float32 or float64 vectors without intensity scaling."
        )
    return dtype


def _in_file_order(vectors_mm: np.ndarray) -> Iterator[memoryview]:
    """The vectors' bytes as the file holds them: all at once, or of large fields one by one."""
    step = 3 if vectors_mm.nbytes <= AT_ONCE_BYTES else 1
    for first in range(0, 3, step):
        stored = turned_vectors(vectors_mm, slice(first, first + step), LPS)
        yield stored.astype("<f4", copy=False).reshape(-1).view(np.uint8).data


def _from_file_order(stored: np.ndarray, intent_code: int) -> np.ndarray:
    """(3, k, j, i) of the intent's frame to RAS (i, j, k, 3)."""
    _, nk, nj, ni = stored.shape
    sign = LPS if intent_code == VECTOR else np.abs(LPS)
    vectors = np.empty((ni, nj, nk, 3), np.float32)

    def turn(j: int) -> None:
        with np.errstate(over="ignore"):  # what float32 cannot hold is refused afterwards
            vectors[:, j] = (stored[:, :, j] * sign[:, None, None]).transpose(2, 1, 0)

    _for_each(turn, nj)
    return vectors


def _for_each(work: Callable[[int], None], count: int) -> None:
    """Call with 0, 1, ... on the writer's threads; numpy lets go of the lock meanwhile."""
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(work, range(count)):
            continue
