"""DICOM as it is sent, a folder, a zip or one file, to a volume: unpacked here, parsed apart."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from service.archives import ArchiveLimits, is_zip, unpack_numbered
from service.errors import ArchiveNestedError, DicomTooComplexError
from service.registration.files.dicom.asking import Tick, asked, untold
from service.registration.files.dicom.gate import has_magic
from service.registration.files.dicom.patient import Patient
from service.registration.files.header import Header
from service.registration.files.limits import Limits
from service.registration.grid import Grid
from service.registration.volume import Volume

MOST_FILES = 20_000
# `origin.Origin` as JSON: turned into one where objects are written, which takes pydicom.
OriginJson = dict[str, Any]


def is_dicom_source(path: Path) -> bool:
    """Whether this is for DICOM to read: a folder, a zip archive, or a DICOM file."""
    if path.is_dir():
        return True
    with path.open("rb") as file:
        start = file.read(132)
    return has_magic(start) or is_zip(start)


def read_dicom(
    path: Path,
    limits: Limits,
    warnings: list[str] | None = None,
    *,
    series: str | None = None,
    tick: Tick = untold,
) -> tuple[Volume, OriginJson]:
    """Read one volume out of a folder, a zip archive or a file of DICOM, and where it comes from.

    Args:
        path: Names in it mean nothing; files that are not DICOM are passed over.
        limits: What is refused before anything is allocated.
        warnings: Takes a sentence for each oddity that was mended.
        series: Which volume, by its number in the list or its series UID, where there are several.
        tick: Called while it is read; may raise to stop it.

    Raises:
        InvalidFileError: Its subclass says what is wrong.
        DicomParsingLimitError: If parsing takes more than its share of memory or time.
    """
    with TemporaryDirectory(prefix="warpline-dicom-") as scratch:
        with _files(path, Path(scratch) / "files", limits, tick) as files:
            voxels = Path(scratch) / "voxels"
            answer = asked("volume", files, limits, tick, series=series, voxels=str(voxels))
        if warnings is not None:
            warnings.extend(answer["warnings"])
        grid = Grid(tuple(answer["shape"]), np.array(answer["affine"]))
        data = np.fromfile(voxels, np.dtype(answer["dtype"]))
    return Volume(data.reshape(grid.shape, order="F"), grid), answer["origin"]


def inspect_dicom(path: Path, limits: Limits, *, series: str | None = None) -> Header:
    """What a folder, an archive or a file of DICOM holds, from its headers; as `read_dicom`.

    Raises:
        InvalidFileError: Its subclass says what is wrong.
    """
    with (
        TemporaryDirectory(prefix="warpline-dicom-") as scratch,
        _files(path, Path(scratch) / "files", limits) as files,
    ):
        answer = asked("headers", files, limits, series=series)
    return Header(
        format="dicom",
        grid=Grid(tuple(answer["shape"]), np.array(answer["affine"])),
        dtype=np.dtype(answer["dtype"]),
        byte_order="little",
        data_offset=0,
        warnings=tuple(answer["warnings"]),
        patient=Patient(**answer["patient"]),
    )


def report_dicom(path: Path, limits: Limits) -> dict[str, Any]:
    """What there is in a folder, an archive or a file of DICOM, see inspecting.py.

    Raises:
        InvalidFileError: If there is nothing to report on.
    """
    with (
        TemporaryDirectory(prefix="warpline-dicom-") as scratch,
        _files(path, Path(scratch) / "files", limits) as files,
    ):
        return asked("report", files, limits)


def read_dicom_labels(
    path: Path, grid: Grid, limits: Limits, warnings: list[str] | None = None
) -> Volume:
    """Read a segmentation or a structure set onto the grid of its image.

    Args:
        path: A file, a folder or a zip archive.
        grid: Of the image.
        limits: As for volumes.
        warnings: Takes a sentence for what was passed over.

    Raises:
        InvalidFileError: Its subclass says what is wrong.
        GridMismatchError: If it does not meet the image in space.
    """
    with TemporaryDirectory(prefix="warpline-dicom-") as scratch:
        voxels = Path(scratch) / "voxels"
        with _files(path, Path(scratch) / "files", limits) as files:
            place = {"shape": grid.shape, "affine": grid.affine.tolist()}
            answer = asked("labels", files, limits, grid=place, voxels=str(voxels))
        data = np.fromfile(voxels, np.dtype(answer["dtype"]))
    if warnings is not None:
        warnings.extend(answer["warnings"])
    return Volume(data.reshape(grid.shape, order="F"), grid)


def read_dicom_points(path: Path, limits: Limits) -> np.ndarray:
    """The points that a structured report marks, (n, 3) RAS mm.

    Raises:
        InvalidFileError: Its subclass says what is wrong.
    """
    with (
        TemporaryDirectory(prefix="warpline-dicom-") as scratch,
        _files(path, Path(scratch) / "files", limits) as files,
    ):
        answer = asked("points", files, limits)
    return np.array(answer["points"], float).reshape(-1, 3)


@contextmanager
def _files(path: Path, folder: Path, limits: Limits, tick: Tick = untold) -> Iterator[list[Path]]:
    """The files of a folder, an archive or a file, in the order of their names."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and not file.is_symlink())
        if len(files) > MOST_FILES:
            raise DicomTooComplexError(
                f"The folder holds more than {MOST_FILES} files; send the series alone."
            )
        yield files
        return
    with path.open("rb") as file:
        is_archive = is_zip(file.read(4))
    if is_archive:
        allowed = ArchiveLimits(MOST_FILES, limits.max_bytes + MOST_FILES * 64 * 1024)
        unpack_numbered(path, folder, allowed, tick)
        files = sorted(folder.iterdir())
        _require_flat(files)
        yield files
    else:
        yield [path]


def _require_flat(files: list[Path]) -> None:
    """Of archives that hold archives and no DICOM it is told what is wrong with them."""
    starts = []
    for file in files:
        with file.open("rb") as opened:
            starts.append(opened.read(132))
    if any(map(is_zip, starts)) and not any(map(has_magic, starts)):
        raise ArchiveNestedError(
            "The archive holds another archive; pack the files themselves, one level deep."
        )
