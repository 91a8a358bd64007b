"""What an answer is made of: rigid part, half grids, points carried there and back, motion."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from service.registration.alignment import Alignment
from service.registration.carried import to_fixed, to_moving
from service.registration.fields import Affine, DisplacementField
from service.registration.grid import Grid
from service.registration.rehearsal import rehearsal_frames
from service.registration.tracked import (
    Reference,
    half_grid,
    in_half_precision,
    nearest_rigid,
    rotation_deg,
)
from service.registration.tracked_measures import motion
from service.registration.volume import Volume

MakeGrid = Callable[..., Grid]
CENTRE_MM = np.array([12.0, -7.0, 3.0])


def turned(degrees: float, shift_mm: tuple[float, float, float]) -> np.ndarray:
    """About CENTRE_MM, then shifted."""
    matrix = np.eye(4)
    axis = np.array([1.0, 2.0, -1.0]) / np.sqrt(6)
    matrix[:3, :3] = Rotation.from_rotvec(np.deg2rad(degrees) * axis).as_matrix()
    matrix[:3, 3] = CENTRE_MM - matrix[:3, :3] @ CENTRE_MM + shift_mm
    return matrix


@pytest.mark.parametrize("degrees", [0.0, 12.0, 179.0])
def test_the_nearest_rigid_motion_of_a_stretched_one_is_the_motion(degrees: float) -> None:
    rigid = turned(degrees, (1.0, 2.0, 3.0))
    stretch = np.eye(4)
    stretch[:3, :3] = [[1.1, 0.05, 0.0], [0.05, 0.9, 0.02], [0.0, 0.02, 1.05]]  # symmetric
    about = np.eye(4)
    about[:3, 3] = CENTRE_MM
    affine = Affine(rigid @ about @ stretch @ np.linalg.inv(about))
    found = nearest_rigid(affine, CENTRE_MM)
    np.testing.assert_allclose(found.matrix, rigid, atol=1e-9)
    assert rotation_deg(found) == pytest.approx(degrees, abs=1e-6)


def test_a_half_grid_holds_every_second_voxel(make_grid: MakeGrid, orientation: str) -> None:
    grid = make_grid(orientation, (7, 8, 1))
    half = half_grid(grid)
    assert half.shape == (4, 4, 1)
    index = np.array([[0, 0, 0], [3, 3, 0]])
    np.testing.assert_allclose(half.to_world(index), grid.to_world(2 * index), atol=1e-9)


def test_half_precision_rounds_and_never_overflows(make_grid: MakeGrid) -> None:
    grid = make_grid("RAS", (2, 2, 2))
    vectors = np.full((2, 2, 2, 3), 31.21, np.float32)
    vectors[0, 0, 0] = (1e6, -1e6, 200.3)
    sent = in_half_precision(DisplacementField(vectors, grid)).astype(np.float64)
    np.testing.assert_allclose(sent[0, 0, 0], (65504, -65504, 200.3), atol=0.063)
    np.testing.assert_allclose(sent[1:], 31.21, atol=0.008)


def wavy(grid: Grid) -> Alignment:
    """A deformation of some voxels' size after an affine."""
    places = grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1))
    vectors = 2.5 * np.sin(places[..., [1, 2, 0]] / 9.0)
    matrix = turned(20.0, (4.0, -9.0, 2.0))
    matrix[:3, :3] *= 1.07
    return Alignment(Affine(matrix), DisplacementField(vectors.astype(np.float32), grid), "refine")


def test_points_of_moving_space_go_where_those_of_fixed_space_came_from(
    make_grid: MakeGrid, orientation: str, rng: np.random.Generator
) -> None:
    grid = make_grid(orientation, (20, 18, 15), (2.0, 2.5, 3.0))
    alignment = wavy(grid)
    inside = grid.to_world(rng.uniform(1, 13, (50, 3)))
    there = to_moving(alignment, inside)
    by_hand = alignment.affine.move(inside + alignment.field.at(inside))
    np.testing.assert_allclose(there, by_hand, atol=1e-9)
    np.testing.assert_allclose(to_fixed(alignment, there), inside, atol=0.01)


def test_a_point_outside_the_field_goes_with_its_border(make_grid: MakeGrid) -> None:
    grid = make_grid("oblique", (6, 6, 6))
    alignment = wavy(grid)
    corner, beyond = grid.to_world([0.0, 0.0, 0.0]), grid.to_world([-3.0, 0.0, 0.0])
    moved = to_moving(alignment, np.stack([corner, beyond]))
    apart = alignment.affine.matrix[:3, :3] @ (beyond - corner)
    np.testing.assert_allclose(moved[1] - moved[0], apart, atol=1e-6)
    np.testing.assert_allclose(to_fixed(alignment, moved), [corner, beyond], atol=0.01)


def test_motion_is_told_from_where_the_initial_transform_puts_things(make_grid: MakeGrid) -> None:
    grid = make_grid("oblique-left-handed", (12, 10, 8))
    initial = Affine(turned(70.0, (30.0, 0.0, 0.0)))
    centre = initial.move(grid.centre_mm)
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("z", 5, degrees=True).as_matrix()
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre + (3.0, 4.0, 0.0)
    field = DisplacementField.zero(grid)
    found = motion(Alignment(Affine(matrix) @ initial, field, "refine"), initial, grid)
    np.testing.assert_allclose(found.shift_mm, (3, 4, 0), atol=1e-9)
    assert found.rotation_deg == pytest.approx(5)
    assert 3 < found.median_mm < found.max_mm < 10


def test_rehearsed_frames_show_the_reference_and_differ(make_grid: MakeGrid) -> None:
    image = Volume(np.random.default_rng(1).random((20, 18, 15)), make_grid("LAS", (20, 18, 15)))
    elsewhere = np.eye(4)
    elsewhere[:3, 3] = 1e4
    for role, grid in (
        ("fixed", image.grid),
        ("moving", make_grid("oblique", (9, 12, 10))),
        ("moving", Grid((9, 12, 10), elsewhere)),
    ):
        frames = list(rehearsal_frames(Reference(image), grid, role, 3))
        assert [frame.grid.shape for frame in frames] == [grid.shape] * 3
        assert np.ptp(frames[0].data) > 0.3
        assert not np.allclose(frames[0].data, frames[1].data, atol=0.05)
