"""The check at the door: files are refused before a job is made of them.

Everything here reads headers and checksums in bounded memory; whether voxels are finite or an image
has contrast is found when the worker reads them.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from service.errors import GridMismatchError, NoOverlapError
from service.registration.files.affine_text import read_affine
from service.registration.files.dicom.patient import require_same_patient
from service.registration.files.dicom.source import is_dicom_source
from service.registration.files.header import Header
from service.registration.files.limits import Limits
from service.registration.files.points_file import read_points
from service.registration.files.volume_file import verify_file
from service.registration.options import RegisterOptions
from service.registration.roles import LABEL_ROLES

POINT_ROLES = frozenset({"fixed_points", "moving_points", "points"})
TRANSFORM_ROLES = frozenset({"initial_transform"})


def check_files(
    paths: Mapping[str, Path], limits: Limits, series: Mapping[str, str | None] | None = None
) -> dict[str, Header]:
    """Check every file by what its role needs; gives the headers of those that are volumes.

    Args:
        paths: The files by role.
        limits: What is refused as too large.
        series: By role, which of several volumes of DICOM was asked for.

    Raises:
        InvalidFileError: Its subclass says what is wrong, its field which role.
    """
    with ThreadPoolExecutor(2) as pool:
        wanted = series or {}
        found = pool.map(lambda role: _check(role, paths[role], limits, wanted.get(role)), paths)
        return {role: header for role, header in zip(paths, found, strict=True) if header}


def _check(role: str, path: Path, limits: Limits, series: str | None) -> Header | None:
    if role in POINT_ROLES:
        read_points(path, role)
        return None
    if role in TRANSFORM_ROLES:
        read_affine(path, role)
        return None
    if role in LABEL_ROLES and is_dicom_source(path):
        return None  # drawn on its image's grid, which the worker reads
    return verify_file(path, limits, role, series=series)


def check_pair(headers: Mapping[str, Header], options: RegisterOptions, *, is_placed: bool) -> None:
    """Check that volumes belong together, as far as their headers tell.

    Fields of view that do not meet are an error only when the headers are trusted: every other
    `initialise` first brings them together, and so may an initial transform (`is_placed`).

    Raises:
        GridMismatchError: If labels or a mask lie on another grid than their image.
        NoOverlapError: If the fields of view do not meet and nothing will bring them together.
        PatientMismatchError: If DICOM images are of different patients, and that is not allowed.
    """
    if {"fixed", "moving"} <= set(headers) and not options.allow_different_patients:
        require_same_patient(headers["fixed"].patient, headers["moving"].patient)
    for role, header in headers.items():
        image = headers.get(role.partition("_")[0])
        if image is not None and not header.grid.is_same(image.grid):
            raise GridMismatchError(
                f"{role} has {_sizes(header)} voxels and its image {_sizes(image)}, or they lie "
                "elsewhere. Resample it onto the grid of its image first.",
                field=role,
            )
    if options.initialise != "none" or is_placed or not {"fixed", "moving"} <= set(headers):
        return
    if not headers["fixed"].grid.overlaps(headers["moving"].grid):
        raise NoOverlapError(
            "The two fields of view do not meet, and `initialise` is `none`. Choose `centre`, "
            "`rigid` or `affine` to bring them together, or check the headers.",
            field="moving",
        )


def _sizes(header: Header) -> str:
    return "x".join(str(n) for n in header.shape)
