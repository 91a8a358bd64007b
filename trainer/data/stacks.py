"""NIfTI files of two, three or four axes, behind the same gate as the service's volumes.

A slice (two axes) becomes a volume of one voxel along k. The fourth axis holds one label each.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from service.errors import NotOneVolumeError
from service.registration.files.content import Content, opened, truncated
from service.registration.files.header import Header
from service.registration.files.limits import Limits
from service.registration.files.nifti import START_BYTES, pass_to_voxels
from service.registration.files.nifti_header import (
    NiftiHeader,
    data_offset,
    dimensions,
    is_nifti,
    parse,
    scaling,
    voxel_type,
)
from service.registration.files.nifti_orientation import grid_of
from service.registration.files.voxels import native, values_of
from service.registration.grid import Grid

Shape = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class StackHeader:
    """Where a stack of volumes lies, and how many there are."""

    grid: Grid
    count: int


def is_stack(path: Path) -> bool:
    """Whether the file is NIfTI with two axes, or with more than three."""
    with opened(path) as (content, _):
        start = content.peek(START_BYTES)
        if not is_nifti(start):
            return False
        lengths = _lengths(parse(start))
        return len(lengths) != 3


def check_stack(path: Path, limits: Limits) -> StackHeader:
    """What the header says.

    Raises:
        InvalidFileError: Its subclass says what is wrong.
    """
    with _opened(path, limits) as (_, header, count, _):
        return StackHeader(header.grid, count)


def read_stack(path: Path, limits: Limits) -> tuple[np.ndarray, Grid]:
    """The values, (i, j, k, n), and the grid of the first three axes.

    Raises:
        InvalidFileError: Its subclass says what is wrong.
    """
    with _opened(path, limits) as (content, header, count, _):
        i, j, k = header.shape
        flat = replace(header, grid=Grid((i, j, k * count), header.grid.affine))
        stored = native(content.voxels(flat.voxel_bytes), flat)
        content.finish()
        values = values_of(stored, flat, [])
    return values.reshape((i, j, k, count), order="F"), header.grid


@contextmanager
def _opened(path: Path, limits: Limits) -> Iterator[tuple[Content, Header, int, bool]]:
    with opened(path) as (content, is_gzipped):
        raw = parse(content.peek(START_BYTES))
        shape, count = _shape(_lengths(raw))
        dtype = voxel_type(raw)
        size = limits.require(shape, dtype.itemsize * count)
        slope, inter = scaling(raw, [])
        offset = data_offset(raw)
        grid = grid_of(_with_thickness(raw), shape, [])
        pass_to_voxels(raw, content, offset)
        if content.most_bytes() < size:
            raise truncated(size, content.most_bytes())
        header = Header(
            "nifti-1" if raw.version == 1 else "nifti-2",
            grid,
            dtype,
            raw.byte_order,
            offset,
            is_gzipped,
            slope=slope,
            inter=inter,
        )
        yield content, header, count, is_gzipped


def _lengths(raw: NiftiHeader) -> tuple[int, ...]:
    """Without axes of one voxel behind the third, and without the fourth of a 5-D file of one."""
    lengths = dimensions(raw)
    if len(lengths) == 5 and lengths[3] == 1:
        lengths = (*lengths[:3], lengths[4])
    while len(lengths) > 3 and lengths[-1] == 1:
        lengths = lengths[:-1]
    return lengths


def _shape(lengths: tuple[int, ...]) -> tuple[Shape, int]:
    if len(lengths) == 2:
        return (lengths[0], lengths[1], 1), 1
    if len(lengths) in (3, 4):
        return (lengths[0], lengths[1], lengths[2]), lengths[3] if len(lengths) == 4 else 1
    raise NotOneVolumeError(
        f"The file holds {len(lengths)} dimensions; training takes slices, volumes, and label "
        "files whose fourth axis is the label."
    )


def _with_thickness(raw: NiftiHeader) -> NiftiHeader:
    """Of a slice: a third axis of the header's length or 1, where the matrix has none."""
    if len(_lengths(raw)) != 2:
        return raw
    thickness = abs(raw.pixdim[3]) or 1.0
    srow = raw.srow.copy()
    normal = np.cross(srow[:, 0], srow[:, 1])
    length = np.linalg.norm(normal)
    found = np.linalg.norm(srow[:, 2])
    if raw.sform_code and length > 0 and not 0.99 < found / thickness < 1.01:
        srow[:, 2] = normal / length * thickness
    pixdim = (*raw.pixdim[:3], thickness, *raw.pixdim[4:])
    return replace(raw, pixdim=pixdim, srow=srow)
