"""Is this voxel-to-world matrix one to register with? The same questions for every format."""

import numpy as np

from service.errors import BadAffineError, BadSpacingError, ShearedAffineError
from service.registration.grid import Grid, Matrix4

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

# A micron is a cell, a metre is a whole body: neither is a voxel of a medical image.
LEAST_SPACING_MM, MOST_SPACING_MM = 1e-3, 1e3
# float32, which headers hold, has no hundredth of a millimetre left beyond 100 m.
MOST_DISTANCE_MM = 1e5
MOST_VALUE = 1e9  # in microns that is a kilometre
# Largest cosine between two axes. Beyond EXACT_SHEAR ITK takes other axes than the file's without a
# word (seen with 2.5: an sform of 1e-4 is replaced by the qform); what we write must not be there.
MOST_SHEAR, EXACT_SHEAR = 1e-3, 5e-5


def sound_grid(shape: tuple[int, int, int], affine: Matrix4, warnings: list[str]) -> Grid:
    """The grid, if its matrix is finite, invertible, without shear and of a medical size.

    Axes that are a little off a right angle, as rounded headers have them, are put right about
    the volume's centre, with a warning: other tools do the same to what we write, unasked.

    Raises:
        BadAffineError: If the matrix is not finite, singular, or puts the volume 100 m away.
        BadSpacingError: If neighbouring voxels are nearer than a micron or farther than a metre.
        ShearedAffineError: If two axes are off a right angle by over 0.001 (0.06 degrees).
    """
    check_finite(affine)
    check_spacing(np.linalg.norm(affine[:3, :3], axis=0), "The voxel-to-world matrix")
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    if abs(np.linalg.det(directions)) < 1e-3:
        raise BadAffineError(
            "The voxel-to-world matrix is singular: two axes point the same way. "
            "Set the orientation again with the tool that wrote the volume."
        )
    shear = float(np.abs(directions.T @ directions - np.eye(3)).max())
    if shear > MOST_SHEAR:
        raise ShearedAffineError(
            f"The voxel axes are not at right angles (cosine {shear:.4f}), as after a gantry tilt "
            "or an affine transform written into the header. Resample the volume to a regular "
            "grid first."
        )
    if np.abs(affine[:3, 3]).max() > MOST_DISTANCE_MM:
        raise BadAffineError(
            "The voxel-to-world matrix puts the volume more than 100 m from the origin. "
            "Set the orientation again with the tool that wrote the volume."
        )
    grid = Grid(shape, affine)
    return grid if shear <= EXACT_SHEAR else _straightened(grid, warnings)


def _straightened(grid: Grid, warnings: list[str]) -> Grid:
    """The nearest grid with axes at right angles, by polar decomposition; the centre stays."""
    left, _, right = np.linalg.svd(grid.directions)
    affine = np.eye(4)
    affine[:3, :3] = (left @ right) * grid.spacing_mm
    affine[:3, 3] = grid.centre_mm - affine[:3, :3] @ ((np.array(grid.shape) - 1) / 2)
    straight = Grid(grid.shape, affine)
    moved_mm = float(np.linalg.norm(straight.corners_mm() - grid.corners_mm(), axis=1).max())
    warnings.append(
        f"The voxel axes were not quite at right angles and were put right, by {moved_mm:.3f} mm "
        "at the corners."
    )
    return straight


def check_finite(matrix: np.ndarray) -> None:
    """Refuse a matrix that cannot be reckoned with.

    Raises:
        BadAffineError: If a value is NaN, infinite, or so large that it must be a mistake.
    """
    if not (np.abs(matrix) <= MOST_VALUE).all():  # NaN is not either
        raise BadAffineError(
            "The voxel-to-world matrix holds values that are not finite or are far too large. "
            "Set the orientation again with the tool that wrote the volume."
        )


def check_spacing(spacing_mm: np.ndarray, where: str) -> None:
    """Refuse spacings that are no voxel's.

    Raises:
        BadSpacingError: If one is NaN, infinite, zero, under a micron or over a metre.
    """
    sound = np.isfinite(spacing_mm) & (spacing_mm >= LEAST_SPACING_MM)
    if not (sound & (spacing_mm <= MOST_SPACING_MM)).all():
        raise BadSpacingError(
            f"{where} gives a voxel spacing that is zero, not finite, or outside 0.001 to 1000 mm. "
            "Set the spacing again with the tool that wrote the volume."
        )
