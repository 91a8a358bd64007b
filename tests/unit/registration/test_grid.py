"""Grids: where voxels lie, against nibabel and by hand."""

from collections.abc import Callable

import nibabel
import numpy as np
import pytest

from service.errors import BadAffineError, BadDimensionsError
from service.registration.grid import Grid


def test_voxels_lie_where_nibabel_puts_them(
    orientation: str, make_grid: Callable[..., Grid], rng: np.random.Generator
) -> None:
    grid = make_grid(orientation)
    voxels = rng.uniform(-3, 30, (50, 3))
    theirs = nibabel.affines.apply_affine(grid.affine, voxels)
    np.testing.assert_allclose(grid.to_world(voxels), theirs, atol=1e-9)
    np.testing.assert_allclose(grid.to_voxel(theirs), voxels, atol=1e-9)
    np.testing.assert_allclose(grid.spacing_mm, nibabel.affines.voxel_sizes(grid.affine))


def test_handedness_and_shear_are_told(orientation: str, make_grid: Callable[..., Grid]) -> None:
    grid = make_grid(orientation)
    assert grid.is_left_handed == (orientation in ("LAS", "oblique-left-handed"))
    assert grid.shear < 1e-12
    sheared = grid.affine.copy()
    sheared[:3, 2] += 0.1 * sheared[:3, 1]
    assert Grid(grid.shape, sheared).shear > 0.02


def test_a_point_is_inside_up_to_half_a_voxel_beyond_the_last_centre(
    orientation: str, make_grid: Callable[..., Grid]
) -> None:
    grid = make_grid(orientation)
    last = np.array(grid.shape) - 1.0
    inside = np.array([[-0.499, -0.499, -0.499], last + 0.499])
    outside = np.array([[-0.501, 0, 0], [0, last[1] + 0.501, 0]])
    assert grid.contains(grid.to_world(inside)).all()
    assert not grid.contains(grid.to_world(outside)).any()


@pytest.mark.parametrize("spacing_mm", [(1.0, 2.0, 3.0), 2.5])
def test_resampling_keeps_the_centre_and_covers_the_field_of_view(
    spacing_mm: float | tuple[float, float, float],
    orientation: str,
    make_grid: Callable[..., Grid],
) -> None:
    grid = make_grid(orientation)
    other = grid.resampled(spacing_mm)
    np.testing.assert_allclose(other.centre_mm, grid.centre_mm, atol=1e-9)
    np.testing.assert_allclose(other.directions, grid.directions, atol=1e-12)
    assert (other.extent_mm >= grid.extent_mm - 1e-6).all()
    assert (other.extent_mm < grid.extent_mm + other.spacing_mm).all()


def test_coarsening_reaches_about_the_voxels_asked_for_and_makes_no_axis_finer() -> None:
    fine = Grid((160, 200, 180), np.diag([1.0, 1.0, 1.0, 1.0]))
    coarse = fine.coarsened(60**3)
    assert 0.9 * 60**3 < coarse.voxel_count < 1.2 * 60**3
    np.testing.assert_allclose(coarse.centre_mm, fine.centre_mm)
    slabs = Grid((256, 256, 20), np.diag([0.5, 0.5, 6.0, 1.0]))
    assert slabs.coarsened(60**3).spacing_mm[2] == pytest.approx(6.0)


def test_the_same_place_is_the_same_grid_and_a_hundredth_of_a_voxel_is_not(
    make_grid: Callable[..., Grid],
) -> None:
    grid = make_grid("oblique")
    rounded = Grid(grid.shape, grid.affine.astype(np.float32).astype(np.float64))
    assert grid.is_same(rounded)
    moved = grid.affine.copy()
    moved[:3, 3] += 0.01 * grid.spacing_mm.min()
    assert not grid.is_same(Grid(grid.shape, moved))
    assert not grid.is_same(Grid((31, 24, 20), grid.affine))


@pytest.mark.parametrize("shape", [(0, 4, 4), (4, -1, 4), (4, 4)])
def test_a_grid_without_voxels_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadDimensionsError):
        Grid(shape, np.eye(4))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "affine",
    [
        np.diag([1.0, 1.0, 0.0, 1.0]),
        np.diag([1.0, 1.0, np.nan, 1.0]),
        np.diag([1.0, 1.0, 1.0, 2.0]),
        np.eye(3),
    ],
    ids=["singular", "not finite", "not affine", "not 4x4"],
)
def test_a_matrix_that_places_nothing_is_refused(affine: np.ndarray) -> None:
    with pytest.raises(BadAffineError):
        Grid((4, 4, 4), affine)
