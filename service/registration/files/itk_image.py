"""NRRD and MetaImage through SimpleITK, which decodes the voxels and says where they lie.

It gets neither a stranger's header nor compressed data. Its readers see fields where the gate sees
none (2.5 reads the local file that a line `ElementDataFile : /etc/passwd` names, or `data file`
behind a lone carriage return), fill up with zeros what is missing, and stop before checksums. So
the gate states the checked fields again, and inflates the voxels as it checks them.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from service.errors import HeaderInconsistentError
from service.registration.files.content import Content
from service.registration.files.header import Header
from service.registration.files.orientation import LPS_TO_RAS, sound_grid
from service.registration.grid import Grid

IMAGE_IO = {"nrrd": "NrrdImageIO", "metaimage": "MetaImageIO"}


def stored_numbers(content: Content, header: Header) -> np.ndarray:
    """The voxels as stored, in the file's order and this machine's byte order; one axis.

    The content is read to its end and last checksum before the library sees a byte of it. There
    are at most two copies of the voxels at any time.

    Raises:
        TruncatedFileError, TrailingDataError, CorruptFileError: As for any content.
        HeaderInconsistentError: If the library finds another volume than the gate.
    """
    with _scratch_file() as (file, name):
        file.write(header.itk_header)
        content.pass_on(header.voxel_bytes, file.write)
        content.finish()
        file.flush()
        image = _image(name, IMAGE_IO[header.format])
    return _numbers(image, header)


@contextmanager
def _scratch_file() -> Iterator[tuple[BinaryIO, str]]:
    """A file that is gone afterwards, in memory where the system has such files."""
    if hasattr(os, "memfd_create"):  # a worker's /tmp may be smaller than a volume
        with open(os.memfd_create("volume"), "wb") as file:  # noqa: PTH123 - it has no path
            yield file, f"/proc/self/fd/{file.fileno()}"
    else:
        with tempfile.NamedTemporaryFile(prefix="warpline-") as named:
            yield named, named.name  # type: ignore[misc]  # a wrapper, not a BinaryIO


def _library() -> Any:
    import SimpleITK  # a tenth of a second that who reads NIfTI does without

    return SimpleITK


def _image(name: str, image_io: str) -> Any:
    reader = _library().ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(name)
    try:
        return reader.Execute()
    except RuntimeError:  # its text holds the file's name
        raise _differs() from None


def _numbers(image: Any, header: Header) -> np.ndarray:
    if image.GetSize() != header.shape or image.GetNumberOfComponentsPerPixel() != 1:
        raise _differs()
    numbers: np.ndarray = _library().GetArrayFromImage(image).ravel()
    if numbers.dtype != header.dtype or not _grid(image).is_same(header.grid):
        raise _differs()
    return numbers


def _grid(image: Any) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return sound_grid(image.GetSize(), LPS_TO_RAS @ affine, [])


def _differs() -> HeaderInconsistentError:
    return HeaderInconsistentError(
        "ITK reads the header in another way than this service, so other tools may as well. "
        "Write the volume again with 3D Slicer or ITK."
    )
