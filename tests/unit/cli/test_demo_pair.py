"""The demo's truth is the truth: told by scipy, not by the code that made it."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from service import demo_pair
from service.demo_pair import Pair, make_pair
from service.registration.volume import Volume

pytest.importorskip("nilearn")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:nilearn")


@pytest.fixture(scope="module")
def pair() -> Pair:
    return make_pair(is_quick=True)


def looked_up(volume: Volume, world_mm: np.ndarray, order: int) -> np.ndarray:
    return map_coordinates(volume.data, volume.grid.to_voxel(world_mm).T, order=order)


def test_points_that_belong_together_lie_in_the_same_tissue(pair: Pair) -> None:
    here = looked_up(pair.fixed_labels, pair.fixed_points.positions_mm, 0)
    there = looked_up(pair.moving_labels, pair.moving_points.positions_mm, 0)
    without_truth = looked_up(pair.fixed_labels, pair.moving_points.positions_mm, 0)
    # Points lie anywhere in a voxel of 2 mm and cortex is thin: borders are rounded twice.
    assert (here == there).mean() > 0.85
    assert (without_truth == there).mean() < 0.6


def test_the_motion_is_large_and_does_not_fold(pair: Pair) -> None:
    apart_mm = np.linalg.norm(
        pair.fixed_points.positions_mm - pair.moving_points.positions_mm, axis=1
    )
    assert np.median(apart_mm) > 8
    flow = demo_pair.random_flow(pair.moving.grid, np.random.default_rng(demo_pair.SEED))
    axes = flow.grid.affine[:3, :3]
    gradient = np.stack(
        [np.stack(np.gradient(flow.vectors_mm[..., c]), axis=-1) for c in range(3)], axis=-2
    )
    jacobian = np.linalg.det(np.eye(3) + gradient @ np.linalg.inv(axes))
    assert jacobian.min() > 0.1
    assert 8 < np.linalg.norm(flow.vectors_mm, axis=-1).max() < 16


def test_the_moving_image_is_another_scan(pair: Pair) -> None:
    assert pair.moving.data.dtype == np.int16
    assert len(set(np.round(pair.moving.grid.spacing_mm, 3))) == 3
    assert np.abs(pair.moving.grid.directions).max() < 0.9999  # oblique
    there = looked_up(pair.moving, pair.moving_points.positions_mm, 1)
    tissue = looked_up(pair.moving_labels, pair.moving_points.positions_mm, 0)
    assert there[tissue == demo_pair.GREY].mean() > 1.2 * there[tissue == demo_pair.WHITE].mean()


def test_the_same_pair_each_time(pair: Pair) -> None:
    again = make_pair(is_quick=True)
    assert np.array_equal(again.moving.data, pair.moving.data)
    assert np.array_equal(again.fixed_points.positions_mm, pair.fixed_points.positions_mm)
