"""Points know their frame."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from service.errors import BadPointsError
from service.registration.fields import Affine
from service.registration.points import VoxelPoints, WorldPoints


def test_voxels_go_to_the_world_and_back(make_grid, orientation, rng):
    grid = make_grid(orientation)
    points = VoxelPoints(rng.uniform(0, 20, (9, 3)), tuple("abcdefghi"))
    back = points.to_world(grid).to_voxel(grid)
    assert_allclose(back.indices, points.indices, atol=1e-9)
    assert back.ids == points.ids


def test_the_first_voxel_lies_at_the_origin(make_grid, orientation):
    origin = VoxelPoints(np.zeros((1, 3))).to_world(make_grid(orientation))
    assert_allclose(origin.positions_mm, [[-12.5, 7.25, 31.0]])


def test_moved_points_keep_their_names():
    shift = np.eye(4)
    shift[:3, 3] = 1, 2, 3
    moved = WorldPoints(np.zeros((1, 3)), ("tip",)).moved(Affine(shift))
    assert_allclose(moved.positions_mm, [[1, 2, 3]])
    assert moved.ids == ("tip",)
    assert len(moved) == 1


@pytest.mark.parametrize("kind", [WorldPoints, VoxelPoints])
@pytest.mark.parametrize(
    ("positions", "ids"),
    [
        (np.zeros(3), None),
        (np.zeros((2, 2)), None),
        (np.full((1, 3), np.inf), None),
        (np.zeros((2, 3)), ("a",)),
    ],
)
def test_what_are_no_points_is_refused(kind, positions, ids):
    with pytest.raises(BadPointsError):
        kind(positions, ids)


def test_points_are_frozen_copies():
    positions = np.zeros((2, 3))
    points = WorldPoints(positions)
    positions[0, 0] = 7
    assert points.positions_mm[0, 0] == 0
