"""Read volumes from files and write them, whatever the format: the door to `files/`.

The format is told from the content; a file's name means nothing and is in no message. A file is
read once, front to back: own gate first, then the voxels straight into an array of the right
size (or, of NRRD and MetaImage, to SimpleITK), then the rest up to the last checksum.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from service.errors import UnsupportedFormatError
from service.registration.files import itk_image, metaimage, nifti, nrrd
from service.registration.files.content import Content, opened, trailing, truncated
from service.registration.files.dicom.asking import Tick, untold
from service.registration.files.dicom.source import (
    OriginJson,
    inspect_dicom,
    is_dicom_source,
    read_dicom,
)
from service.registration.files.header import Header, faults_of
from service.registration.files.inflate import PADDING_BYTES
from service.registration.files.limits import Limits
from service.registration.files.metaimage import is_metaimage
from service.registration.files.nifti_header import is_nifti
from service.registration.files.nifti_writer import (
    header_bytes,
    in_file_order,
    write_content,
)
from service.registration.files.nrrd import is_nrrd
from service.registration.files.voxels import native, values_of
from service.registration.volume import Volume, as_label_map

GATES = (
    (is_nrrd, nrrd.volume_header),
    (is_metaimage, metaimage.volume_header),
    (is_nifti, nifti.volume_header),
)
FORMATS = "NIfTI (.nii, .nii.gz), NRRD, MetaImage (.mha), or DICOM (a file, or a zip of a series)"


def check_header(path: Path, limits: Limits, field: str = "fixed") -> Header:
    """What the file's header says, if it is one volume that this service registers.

    Reads a few kilobytes. Of an uncompressed file the length is checked too.

    Args:
        path: Any file; its name is not looked at.
        limits: What is refused from the header alone.
        field: The part of the request that errors name.

    Raises:
        InvalidFileError: Its subclass says what is wrong.
    """
    if is_dicom_source(path):
        with faults_of(field):
            return inspect_dicom(path, limits)
    with faults_of(field), _opened(path, limits) as (header, _):
        return header


def verify_file(
    path: Path, limits: Limits, field: str = "fixed", *, series: str | None = None
) -> Header:
    """Check the header and every byte after it, in bounded memory: length and checksums.

    Of DICOM the headers are read and the slices laid out; pixels are decoded when they are read.

    Args:
        path: Any file; its name is not looked at.
        limits: What is refused from the header alone.
        field: The part of the request that errors name.
        series: Of DICOM with several volumes, which.

    Raises:
        InvalidFileError: Its subclass says what is wrong.
    """
    if is_dicom_source(path):
        with faults_of(field):
            return inspect_dicom(path, limits, series=series)
    with faults_of(field), _opened(path, limits) as (header, content):
        content.pass_over(header.voxel_bytes)
        content.finish()
        return header


def read_image(
    path: Path,
    limits: Limits,
    field: str = "fixed",
    warnings: list[str] | None = None,
    *,
    series: str | None = None,
    tick: Tick = untold,
) -> tuple[Volume, OriginJson | None]:
    """As `read_volume`; of DICOM also where it comes from, and one of several volumes.

    Args:
        path: Any file, or a folder of DICOM; its name is not looked at.
        limits: What is refused before anything is allocated.
        field: The part of the request that errors name.
        warnings: Takes a sentence for each oddity that was mended.
        series: Which volume, by its number in the list or its series UID.
        tick: Called while DICOM is read; may raise to stop it.

    Raises:
        InvalidFileError: Its subclass says what is wrong.
    """
    if is_dicom_source(path):
        with faults_of(field):
            return read_dicom(path, limits, warnings, series=series, tick=tick)
    return read_volume(path, limits, field, warnings), None


def read_volume(
    path: Path, limits: Limits, field: str = "fixed", warnings: list[str] | None = None
) -> Volume:
    """Read a volume, with the checks of `verify_file` in the same pass.

    Voxels keep their integer type where the header scales nothing; all others become float32,
    which rounds float64 and scaled 32-bit values to 7 digits. Axes are i, j, k and the array is
    in Fortran order, as files are. Up to 0.1 % of voxels that are not finite become 0.

    Args:
        path: Any file; its name is not looked at.
        limits: What is refused before anything is allocated.
        field: The part of the request that errors name.
        warnings: Takes a sentence for each oddity that was mended.

    Raises:
        InvalidFileError: Its subclass says what is wrong.
    """
    if is_dicom_source(path):
        with faults_of(field):
            return read_dicom(path, limits, warnings)[0]
    with faults_of(field), _opened(path, limits) as (header, content):
        stored = itk_image.stored_numbers(content, header) if header.itk_header else None
        if stored is None:
            stored = native(content.voxels(header.voxel_bytes), header)
            content.finish()
        oddities = list(header.warnings)
        data = values_of(stored, header, oddities)
    if warnings is not None:
        warnings.extend(oddities)
    return Volume(data, header.grid)


def read_label_map(
    path: Path, limits: Limits, field: str = "labels", warnings: list[str] | None = None
) -> Volume:
    """Read a label map as the smallest unsigned integers that hold its labels.

    Raises:
        InvalidFileError: Its subclass says what is wrong; BadLabelsError for values that are
            no labels.
    """
    return as_label_map(read_volume(path, limits, field, warnings), field)


def write_volume(path: Path, volume: Volume) -> str:
    """Write a volume as NIfTI: gzipped where the name ends in .gz; the same bytes every time.

    Gives the file's SHA-256.

    sform and qform are equal with code 1, the unit is the millimetre, nothing is scaled and the
    header's texts are empty. Truth values are written as uint8.

    Raises:
        UnsupportedDatatypeError: If the voxels are of a type that NIfTI has no code for.
    """
    data = volume.data.view(np.uint8) if volume.data.dtype == np.bool_ else volume.data
    return write_content(path, (header_bytes(volume.grid, data.dtype), in_file_order(data)))


@contextmanager
def _opened(path: Path, limits: Limits) -> Iterator[tuple[Header, Content]]:
    """The checked header, and the content where the voxels begin."""
    with opened(path) as (content, is_gzipped):
        header, voxels = _gate(content, limits, is_gzipped=is_gzipped)
        if voxels.most_bytes() < header.voxel_bytes:
            raise truncated(header.voxel_bytes, voxels.most_bytes())
        if header.encoding == "raw" and not is_gzipped:
            _check_end(header, voxels)
        yield header, voxels


def _gate(content: Content, limits: Limits, *, is_gzipped: bool) -> tuple[Header, Content]:
    start = content.peek(nifti.START_BYTES)
    for is_ours, gate in GATES:
        if is_ours(start):
            return gate(content, limits, is_gzipped=is_gzipped)
    if not start:
        raise UnsupportedFormatError(f"The file is empty. Send {FORMATS}.")
    raise UnsupportedFormatError(f"The file is in no format that this service reads: {FORMATS}.")


def _check_end(header: Header, voxels: Content) -> None:
    """Of plain files the length tells at once what else the last read would."""
    if voxels.most_bytes() > header.voxel_bytes + PADDING_BYTES:
        raise trailing()
