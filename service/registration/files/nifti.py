"""NIfTI-1 and NIfTI-2 in a single file: the gate that a volume must pass."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.errors import NotOneVolumeError, UnsupportedFormatError
from service.registration.files.content import Content, opened, truncated
from service.registration.files.header import Header
from service.registration.files.limits import Limits
from service.registration.files.nifti_header import (
    EXTENDER_BYTES,
    NiftiHeader,
    check_extensions,
    data_offset,
    dimensions,
    is_nifti,
    parse,
    scaling,
    voxel_type,
)
from service.registration.files.nifti_orientation import grid_of

START_BYTES = 540 + EXTENDER_BYTES


def volume_header(content: Content, limits: Limits, *, is_gzipped: bool) -> tuple[Header, Content]:
    """Check that the file holds one scalar volume.

    Returns:
        The header, and the content where the voxels begin.

    Raises:
        InvalidFileError: Its subclass says what is wrong.
    """
    raw = parse(content.peek(START_BYTES))
    shape = _one_volume(dimensions(raw))
    return header_of(raw, shape, content, limits, is_gzipped=is_gzipped), content


def header_of(
    raw: NiftiHeader,
    shape: tuple[int, int, int],
    content: Content,
    limits: Limits,
    *,
    is_gzipped: bool,
) -> Header:
    """Check one volume of this shape, and read on to where the voxels begin.

    Raises:
        InvalidFileError: Its subclass says what is wrong.
    """
    warnings: list[str] = []
    dtype = voxel_type(raw)
    limits.require(shape, dtype.itemsize)
    offset = data_offset(raw)
    slope, inter = scaling(raw, warnings)
    grid = grid_of(raw, shape, warnings)
    pass_to_voxels(raw, content, offset)
    return Header(
        format="nifti-1" if raw.version == 1 else "nifti-2",
        grid=grid,
        dtype=dtype,
        byte_order=raw.byte_order,
        data_offset=offset,
        is_gzipped=is_gzipped,
        slope=slope,
        inter=inter,
        warnings=tuple(warnings),
    )


def _one_volume(lengths: tuple[int, ...]) -> tuple[int, int, int]:
    while len(lengths) > 3 and lengths[-1] == 1:
        lengths = lengths[:-1]
    if len(lengths) < 3:
        raise NotOneVolumeError(
            f"The file holds an image of {len(lengths)} dimensions; registration needs three. "
            "Send a volume."
        )
    if len(lengths) > 3:
        raise NotOneVolumeError(
            f"The file holds {len(lengths)} dimensions, {lengths}: a time series, channels or a "
            "vector field. Send one volume of it."
        )
    i, j, k = lengths
    return i, j, k


def pass_to_voxels(raw: NiftiHeader, content: Content, offset: int) -> None:
    """Read on to where the voxels begin, past header extensions, which are checked and dropped.

    Raises:
        TruncatedFileError: If the content ends first.
        HeaderInconsistentError: If an extension does not end there.
    """
    if content.most_bytes() < offset:
        raise truncated(offset, content.most_bytes())
    region = content.peek(offset)[raw.size :]
    content.pass_over(offset)
    check_extensions(region, raw.byte_order)


@contextmanager
def open_nifti(path: Path) -> Iterator[tuple[NiftiHeader, Content]]:
    """The header of a NIfTI file, and the content with the header still to be read.

    Raises:
        UnsupportedFormatError: If the file is something else.
    """
    with opened(path) as (content, _):
        start = content.peek(START_BYTES)
        if not is_nifti(start):
            raise UnsupportedFormatError("The file is not NIfTI (.nii or .nii.gz).")
        yield parse(start), content
