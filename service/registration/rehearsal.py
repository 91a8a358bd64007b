"""Frames as they may come, made from the reference: to measure what one costs before any came."""

from collections.abc import Iterator

import numpy as np

from service.registration.fields import Affine, DisplacementField
from service.registration.grid import Grid
from service.registration.regularity import overlap_fraction
from service.registration.resample import warp
from service.registration.tracked import Reference, Role
from service.registration.volume import Volume

SEED = 4
LARGEST_TURN_DEG = 3.0
LARGEST_SHIFT = LARGEST_BEND = 0.02  # of the field of view's longest side
NOISE = 0.01  # of the image's range
BEND_VOXELS = 6**3  # of the random field that is interpolated
PHASE = 0.3  # of the motion from one frame to the next
LEAST_OVERLAP = 0.25  # below it the reference is put where the frames are


def rehearsal_frames(reference: Reference, grid: Grid, role: Role, count: int) -> Iterator[Volume]:
    """The reference seen on the frames' grid, moved and bent a little more or less each time.

    The same frames every time. A frame is never constant, even where it shows nothing.
    """
    rng = np.random.default_rng(SEED)
    placed, bend = _placed(reference, grid, role), _bend(grid, rng)
    angles, shift = rng.uniform(-1, 1, (2, 3))
    spread = max(float(np.ptp(reference.image.data)), 1e-6)
    for number in range(count):
        weight = np.sin(PHASE * (number + 1))
        bent = DisplacementField(np.float32(weight) * bend.vectors_mm, bend.grid)
        affine = placed @ _shake(grid, weight * angles, weight * shift)
        frame = warp(reference.image, bent, grid, affine=affine)
        noise = NOISE * spread * rng.standard_normal(grid.shape).astype(np.float32)
        yield frame.with_data(frame.data + noise)


def _placed(reference: Reference, grid: Grid, role: Role) -> Affine:
    """From the frames' world to the reference's."""
    affine = reference.initial if role == "moving" else reference.initial.inverse()
    nothing = DisplacementField.zero(grid.coarsened(BEND_VOXELS))
    if overlap_fraction(nothing, reference.image.grid, affine=affine) >= LEAST_OVERLAP:
        return affine
    matrix = np.eye(4)
    matrix[:3, 3] = reference.image.grid.centre_mm - grid.centre_mm
    return Affine(matrix)


def _shake(grid: Grid, angles: np.ndarray, shift: np.ndarray) -> Affine:
    """A small turn about the grid's centre, and a small shift; both given as shares, -1 to 1."""
    angles = np.deg2rad(LARGEST_TURN_DEG * angles)
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = (axis + 1) % 3, (axis + 2) % 3
        about = np.eye(3)
        about[[a, b], [a, b]] = np.cos(angle)
        about[b, a] = np.sin(angle)
        about[a, b] = -np.sin(angle)
        turn = turn @ about
    shift = LARGEST_SHIFT * shift * grid.extent_mm.max()
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = grid.centre_mm - turn @ grid.centre_mm + shift
    return Affine(matrix)


def _bend(grid: Grid, rng: np.random.Generator) -> DisplacementField:
    """A random field of few voxels, which interpolation makes smooth."""
    coarse = grid.coarsened(BEND_VOXELS)
    largest_mm = LARGEST_BEND * float(grid.extent_mm.max())
    vectors = rng.uniform(-largest_mm, largest_mm, (*coarse.shape, 3))
    return DisplacementField(vectors.astype(np.float32), coarse)
