"""What a file's header says, once it is known to be sound."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np

from service.errors import InvalidFileError
from service.registration.files.dicom.patient import Patient
from service.registration.grid import Grid

Format = Literal["nifti-1", "nifti-2", "nrrd", "metaimage", "dicom"]
Encoding = Literal["raw", "gzip", "zlib"]
ByteOrder = Literal["little", "big"]


@dataclass(frozen=True, eq=False)
class Header:
    """One scalar volume in a file: where it lies in space, and where its voxels are stored.

    `dtype` is in native byte order, `byte_order` the file's. `data_offset` counts from the start of
    the content: of the decompressed content where `is_gzipped`. `encoding` is that of the voxels
    alone, as NRRD and MetaImage have it. A voxel's value is `stored * slope + inter`. `itk_header`
    is what SimpleITK is told of a NRRD or MetaImage file: the checked fields, written again.
    `patient` is of DICOM, to compare.
    """

    format: Format
    grid: Grid
    dtype: np.dtype[np.generic]
    byte_order: ByteOrder
    data_offset: int
    is_gzipped: bool = False
    encoding: Encoding = "raw"
    slope: float = 1.0
    inter: float = 0.0
    itk_header: bytes = b""
    warnings: tuple[str, ...] = ()
    patient: Patient | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.grid.shape

    @property
    def voxel_bytes(self) -> int:
        """Bytes that the voxels take as stored, decompressed."""
        return self.grid.voxel_count * self.dtype.itemsize

    @property
    def is_scaled(self) -> bool:
        """Whether stored values and voxel values differ."""
        return (self.slope, self.inter) != (1.0, 0.0)


@contextmanager
def faults_of(field: str) -> Iterator[None]:
    """Say in every file error that leaves the block which part of the request is at fault."""
    try:
        yield
    except InvalidFileError as error:
        if error.field is None:
            error.field = field
        raise
