"""Where a NIfTI file's voxels lie: from its sform, else its qform, never a guess.

Source: nifti1.h, 3D IMAGE ORIENTATION AND LOCATION IN SPACE, methods 2 and 3.
"""

import numpy as np

from service.errors import (
    AmbiguousOrientationError,
    BadAffineError,
    BadSpacingError,
    HeaderInconsistentError,
    NoOrientationError,
)
from service.registration.files.nifti_header import NiftiHeader
from service.registration.files.orientation import check_finite, check_spacing, sound_grid
from service.registration.grid import Grid, Matrix4

UNITS_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # unknown, metre, millimetre, micron

MOST_APART_VOXELS = 0.1
# pixdim and the matrix are rounded apart by some writers; a hundredth moves a voxel's edge.
MOST_SPACING_RATIO = 0.01
# b² + c² + d² of a unit quaternion written as three float32.
MOST_QUATERNION_EXCESS = 1e-5
# Rounding alone leaves this much of 1 for a half turn, whose a is 0; nibabel draws the same line.
QUATERNION_NOISE = 3 * float(np.finfo(np.float32).eps)


def grid_of(header: NiftiHeader, shape: tuple[int, int, int], warnings: list[str]) -> Grid:
    """Where the voxels lie, in millimetres, RAS+.

    The sform is taken where there is one, as every tool does; the qform must then agree with it,
    unless its code names another space. Metres and microns are converted.

    Raises:
        NoOrientationError: If both codes are 0.
        AmbiguousOrientationError: If both claim the same space and are over 0.1 voxel apart.
        BadSpacingError: If a pixdim is no spacing, or not the matrix's.
        BadAffineError, ShearedAffineError, HeaderInconsistentError: If the matrix is no grid's.
    """
    if min(header.qform_code, header.sform_code) < 0:
        raise HeaderInconsistentError(
            "The header's orientation codes are negative. Set the orientation again."
        )
    if header.qform_code == 0 and header.sform_code == 0:
        raise NoOrientationError(
            "The header does not say how the voxels lie in space (qform_code and sform_code are "
            "0), so left and right are unknown. Set the orientation with the tool that wrote the "
            "volume, or convert it from DICOM again."
        )
    unit = _unit_mm(header, warnings)
    with np.errstate(over="ignore"):
        spacing = _spacing(header, warnings) * unit
    check_spacing(spacing, "The header's pixdim")
    scale = np.diag([unit, unit, unit, 1.0])
    if header.sform_code == 0:
        return sound_grid(shape, scale @ _qform(header, warnings), warnings)
    grid = sound_grid(shape, scale @ _sform(header), warnings)
    if header.qform_code > 0:
        _compare(grid, scale @ _qform(header, []), header, warnings)
    _check_pixdim(grid, spacing, header, warnings)
    return grid


def _unit_mm(header: NiftiHeader, warnings: list[str]) -> float:
    code = header.units & 7
    if code not in UNITS_MM:
        raise HeaderInconsistentError(
            "The header's unit of length is unknown. Set xyzt_units to millimetres."
        )
    if code == 0:
        warnings.append("The header names no unit of length; millimetres were assumed.")
    elif code != 2:
        name = "metres" if code == 1 else "microns"
        warnings.append(f"The header's unit of length is {name}; it was converted to millimetres.")
    return UNITS_MM[code]


def _spacing(header: NiftiHeader, warnings: list[str]) -> np.ndarray:
    """pixdim along i, j and k, in the header's unit."""
    if min(header.pixdim[1:4]) < 0:
        warnings.append("The header gives a negative spacing; its absolute value was used.")
    return np.array([abs(x) for x in header.pixdim[1:4]])


def _sform(header: NiftiHeader) -> Matrix4:
    check_finite(header.srow)
    return np.vstack([header.srow, (0.0, 0.0, 0.0, 1.0)])


def _qform(header: NiftiHeader, warnings: list[str]) -> Matrix4:
    """Method 2: a quaternion, the spacing, and a reflection of the last axis if pixdim[0] < 0."""
    check_finite(header.qoffset)
    b, c, d = np.clip(header.quaternion, -2, 2)  # what is longer than 1 is refused below
    rest = 1.0 - (b * b + c * c + d * d)
    if not rest >= -MOST_QUATERNION_EXCESS:  # NaN is not either
        raise BadAffineError(
            "The header's quaternion is no rotation. "
            "Set the orientation again with the tool that wrote the volume."
        )
    if header.pixdim[0] not in (-1.0, 0.0, 1.0):
        warnings.append("The header's qfac (pixdim[0]) is neither 1 nor -1; its sign was used.")
    a = np.sqrt(rest) if rest > QUATERNION_NOISE else 0.0
    a, b, c, d = np.array([a, b, c, d]) / np.sqrt(a * a + b * b + c * c + d * d)
    affine = np.eye(4)
    affine[:3, :3] = [
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ]
    reflection = -1.0 if header.pixdim[0] < 0 else 1.0
    affine[:3, :3] *= np.abs(header.pixdim[1:4]) * (1.0, 1.0, reflection)
    affine[:3, 3] = header.qoffset
    return affine


def _compare(grid: Grid, qform: Matrix4, header: NiftiHeader, warnings: list[str]) -> None:
    corners = grid.corners_mm()
    theirs = grid.to_voxel(corners) @ qform[:3, :3].T + qform[:3, 3]
    apart = float(np.linalg.norm(theirs - corners, axis=1).max() / grid.spacing_mm.min())
    if apart <= MOST_APART_VOXELS:
        return
    if header.qform_code == header.sform_code:
        raise AmbiguousOrientationError(
            "The header's qform and sform claim the same space but differ by "
            f"{apart:.2f} voxels at a corner. Make them equal with the tool that wrote the volume."
        )
    warnings.append(
        f"The header's qform and sform differ by {apart:.2f} voxels at a corner and name different "
        "spaces; the sform was used."
    )


def _check_pixdim(
    grid: Grid, spacing_mm: np.ndarray, header: NiftiHeader, warnings: list[str]
) -> None:
    """pixdim is the qform's; beside an sform of the same space it must be that one's too."""
    off = float(np.abs(spacing_mm / grid.spacing_mm - 1).max())
    if off <= MOST_SPACING_RATIO:
        return
    if header.qform_code in (0, header.sform_code):
        raise BadSpacingError(
            f"The header's pixdim and its sform differ by {100 * off:.1f} % in voxel spacing. "
            "Set the spacing again with the tool that wrote the volume."
        )
    warnings.append(
        "The header's pixdim is not the spacing of its sform, which names another space; "
        "the sform was used."
    )
