"""From slice positions to a grid: regular as they are, or what has to be resampled, or refused.

Slices of a tilted gantry lie on a line that is not their normal, so voxels are sheared; slices may
be missing or unevenly spaced. Both are put right by resampling within the bounds below, with a
warning; what lies beyond is refused with the list of what is wrong. Nothing is averaged away.
"""

from dataclasses import dataclass

import numpy as np

from service.errors import BadSpacingError, MissingSlicesError, SliceTiltError
from service.registration.files.dicom.stacks import Stack
from service.registration.files.orientation import LPS_TO_RAS, check_spacing

EVEN_SHARE, EVEN_MM = 0.01, 0.02  # of the step; positions are rounded to hundredths in many files
SAME_VOX = 1e-6  # less than this off a whole voxel is rounding of the header's numbers
TILT_DEG = 0.1  # a line of positions this close to the normal is the normal, rounded
MOST_TILT_DEG = 35.0  # gantries tilt by up to 30
# Steps between slices, in units of the usual one: at most one slice may be missing in a place.
LEAST_STEP, MOST_STEP = 0.2, 2.05
MISSING_STEP = 1.9  # from here on a slice is missing; below, the scanner was told to space them so
MOST_MISSING_SHARE = 0.1
MOST_LISTED = 8


@dataclass(frozen=True)
class Layout:
    """The grid of a stack, and how its slices come to lie on it.

    `shape` and `affine` (RAS, index i along columns of the image, j along rows, k along the normal)
    are those of the delivered volume. `shifts_vox` says how far, in voxels along i and j, each
    slice's origin lies from where the grid's first corner is; `places_vox` where it lies along k.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    shifts_vox: np.ndarray  # (slices, 2)
    places_vox: np.ndarray  # (slices,)
    is_tilted: bool
    is_uneven: bool
    warnings: tuple[str, ...]


def layout_of(stack: Stack) -> Layout:
    """How the slices of a stack make a volume.

    Raises:
        BadSpacingError: If a spacing is zero or absurd.
        MissingSlicesError: If slices are further apart than is resampled; `errors` lists the gaps.
        SliceTiltError: If they are tilted by over 35 degrees, or off one line.
    """
    first = stack.first
    row, column = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    between_rows, between_columns = first.kind.spacing_mm
    check_spacing(np.array(first.kind.spacing_mm), "The DICOM header")
    positions = np.array([frame.position for frame in stack.frames])
    offsets = positions - positions[0]
    distances = offsets @ first.normal
    step, uneven, warnings = _step(distances, stack)
    check_spacing(np.array([step]), "The DICOM header")
    in_plane = np.stack([offsets @ row / between_columns, offsets @ column / between_rows], axis=1)
    tilt = _tilt_deg(in_plane * (between_columns, between_rows), distances)
    is_tilted = _is_off_normal(in_plane * (between_columns, between_rows), distances)
    if is_tilted:
        warnings.append(
            f"The slices are tilted by {tilt:.1f} degrees against their stacking direction and "
            "were resampled to a grid with axes at right angles."
        )
    low = np.floor(in_plane.min(axis=0) + SAME_VOX) if is_tilted else np.zeros(2)
    high = np.ceil(in_plane.max(axis=0) - SAME_VOX) if is_tilted else np.zeros(2)
    places = distances / step
    count = int(np.floor(places[-1] + 0.5 + SAME_VOX)) + 1 if uneven else len(places)
    shape = (
        first.kind.columns + int(high[0] - low[0]),
        first.kind.rows + int(high[1] - low[1]),
        count,
    )
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = row * between_columns, column * between_rows
    affine[:3, 2] = first.normal * step
    affine[:3, 3] = positions[0] + affine[:3, :2] @ low
    return Layout(
        shape,
        LPS_TO_RAS @ affine,
        in_plane - low if is_tilted else np.zeros_like(in_plane),
        places if uneven else np.arange(len(places), dtype=float),
        is_tilted,
        uneven,
        tuple(warnings),
    )


def _step(distances: np.ndarray, stack: Stack) -> tuple[float, bool, list[str]]:
    """The spacing along the normal, whether slices are unevenly spaced, and warnings."""
    if len(distances) == 1:
        thickness = stack.first.thickness_mm or 1.0
        return thickness, False, [f"The series has one slice, taken as {thickness:g} mm thick."]
    steps = np.diff(distances)
    usual = float(np.median(steps))
    even = float(distances[-1] / (len(distances) - 1))
    if np.abs(steps - even).max() <= max(EVEN_SHARE * even, EVEN_MM):
        return even, False, []
    _require_bounds(steps, usual)
    return (
        usual,
        True,
        [
            f"The slices are unevenly spaced ({steps.min():.2f} to {steps.max():.2f} mm) and were "
            f"resampled to {usual:.2f} mm."
        ],
    )


def _require_bounds(steps: np.ndarray, usual: float) -> None:
    if usual <= 0:
        raise BadSpacingError("The slices lie in one place.")
    wrong = np.flatnonzero((steps > MOST_STEP * usual) | (steps < LEAST_STEP * usual))
    missing = np.flatnonzero(steps >= MISSING_STEP * usual)
    if len(wrong) == 0 and len(missing) <= MOST_MISSING_SHARE * (len(steps) + 1):
        return
    gaps = np.union1d(wrong, missing)
    listed = ", ".join(f"{steps[n]:.2f} mm after slice {n + 1}" for n in gaps[:MOST_LISTED])
    raise MissingSlicesError(
        f"The slices are usually {usual:.2f} mm apart, but {listed}"
        f"{' and more' if len(gaps) > MOST_LISTED else ''}. Send the whole series.",
        errors=tuple(
            {"field": f"slice {n + 1}", "detail": f"The next slice is {steps[n]:.3f} mm away."}
            for n in gaps[:MOST_LISTED]
        ),
    )


def _tilt_deg(in_plane_mm: np.ndarray, distances: np.ndarray) -> float:
    if len(distances) < 2:
        return 0.0
    return float(np.degrees(np.arctan2(np.linalg.norm(in_plane_mm[-1]), distances[-1])))


def _is_off_normal(in_plane_mm: np.ndarray, distances: np.ndarray) -> bool:
    """Whether the positions leave the normal, on a straight line.

    Raises:
        SliceTiltError: If the line is not straight, or further off than gantries tilt.
    """
    tilt = _tilt_deg(in_plane_mm, distances)
    if tilt > MOST_TILT_DEG:
        raise SliceTiltError(
            f"The slices are tilted by {tilt:.1f} degrees against their stacking direction; up to "
            f"{MOST_TILT_DEG:.0f} are put right."
        )
    off_mm = float(np.abs(in_plane_mm).max())
    if tilt <= TILT_DEG and off_mm <= max(EVEN_MM, np.tan(np.radians(TILT_DEG)) * distances[-1]):
        return False
    line = np.outer(distances / distances[-1], in_plane_mm[-1])
    if np.abs(in_plane_mm - line).max() > max(0.5, 0.02 * off_mm):
        raise SliceTiltError("The slices are not stacked along one line. Export the series again.")
    return True
