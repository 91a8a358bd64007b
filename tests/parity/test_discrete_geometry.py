"""A known motion of a textured phantom is found: direction, sign, size and place."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from service.registration.fields import Affine
from service.registration.grid import Grid
from service.registration.models_folder import ModelFolder
from service.registration.volume import Volume

MakeGrid = Callable[..., Grid]
SHAPE, SPACING_MM = (44, 52, 30), (1.0, 1.0, 2.0)


def _phantom(places_mm: np.ndarray) -> np.ndarray:
    """A smooth random texture, as a function of the world."""
    rng = np.random.default_rng(11)
    waves = rng.normal(size=(40, 3)) * 0.22
    phases = rng.uniform(0, 2 * np.pi, 40)
    return np.sin(places_mm @ waves.T + phases).sum(axis=-1).astype(np.float32)


def _places(grid: Grid) -> np.ndarray:
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    return grid.to_world(index)


def _core(values: np.ndarray) -> np.ndarray:
    return values[4:-4, 4:-4, 4:-4].reshape(-1, 3)


def _predict(fixed: Volume, moving: Volume, initial: Affine) -> tuple[np.ndarray, np.ndarray]:
    """The field inside, and where it lies."""
    field = ModelFolder(threads=2).load("discrete").predict(fixed, moving, initial)
    return _core(field.vectors_mm), _core(_places(field.grid))


def test_a_shift_is_found_on_any_grid(make_grid: MakeGrid, orientation: str) -> None:
    shift = np.array([3.0, -2.0, 4.0])
    grid = make_grid(orientation, SHAPE, SPACING_MM)
    fixed = Volume(_phantom(_places(grid) + shift), grid)
    vectors, _ = _predict(fixed, Volume(_phantom(_places(grid)), grid), Affine.identity())
    # A cell is 2 mm wide.
    np.testing.assert_allclose(np.median(vectors, axis=0), shift, atol=0.6)


def test_the_field_belongs_to_the_places_it_is_given_for(make_grid: MakeGrid) -> None:
    """A scaling about the centre: a field half a cell off would show as a constant error."""
    grid = make_grid("oblique", SHAPE, SPACING_MM)
    centre = grid.centre_mm
    fixed = Volume(_phantom(centre + 1.08 * (_places(grid) - centre)), grid)
    vectors, places = _predict(fixed, Volume(_phantom(_places(grid)), grid), Affine.identity())
    error = vectors - 0.08 * (places - centre)
    assert np.abs(np.median(error, axis=0)).max() < 0.15
    assert np.median(np.linalg.norm(error, axis=1)) < 1.0  # half a cell


def test_the_initial_transform_is_taken_off_the_answer(make_grid: MakeGrid) -> None:
    """moving(A(x + u(x))) = fixed(x): with the exact A there is nothing left to find."""
    grid = make_grid("LPS", SHAPE, SPACING_MM)
    turn = np.array([[0.995, -0.0998, 0], [0.0998, 0.995, 0], [0, 0, 1.0]])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn, (25.0, -4.0, 6.0)
    initial = Affine(matrix)
    fixed = Volume(_phantom(initial.move(_places(grid))), grid)
    away = matrix.copy()
    other = Grid((60, 66, 70), np.array(away @ grid.affine @ np.diag([0.9, 1.1, 0.5, 1.0])))
    moving = Volume(_phantom(_places(other)), other)
    vectors, _ = _predict(fixed, moving, initial)
    assert np.linalg.norm(vectors, axis=1).mean() < 0.5


def test_moving_both_images_with_their_origins_changes_nothing(make_grid: MakeGrid) -> None:
    grid = make_grid("LAS", SHAPE, SPACING_MM)
    affine = grid.affine.copy()
    affine[:3, 3] += (123.4, -56.7, 8.9)
    elsewhere = Grid(grid.shape, affine)
    images = [_phantom(_places(grid) + shift) for shift in ((2.0, 1.0, 0.0), (0.0, 0.0, 0.0))]
    one, _ = _predict(*(Volume(image, grid) for image in images), Affine.identity())
    two, _ = _predict(*(Volume(image, elsewhere) for image in images), Affine.identity())
    np.testing.assert_allclose(one, two, atol=1e-3)


def test_another_contrast_is_no_obstacle(make_grid: MakeGrid) -> None:
    shift = np.array([2.0, 3.0, -3.0])
    grid = make_grid("RAS", SHAPE, SPACING_MM)
    fixed = Volume(_phantom(_places(grid) + shift), grid)
    moving = Volume(700 - 90 * _phantom(_places(grid)), grid)
    vectors, _ = _predict(fixed, moving, Affine.identity())
    np.testing.assert_allclose(np.median(vectors, axis=0), shift, atol=0.6)


def test_identical_images_stay_where_they_are(make_grid: MakeGrid) -> None:
    grid = make_grid("oblique", SHAPE, SPACING_MM)
    volume = Volume(ndimage.gaussian_filter(_phantom(_places(grid)), 0.5), grid)
    vectors, _ = _predict(volume, volume, Affine.identity())
    assert np.linalg.norm(vectors, axis=1).max() < 0.1


@pytest.mark.parametrize("shape", [(1, 40, 40), (3, 3, 3), (40, 2, 9)])
def test_thin_and_tiny_volumes_give_a_finite_field(shape: tuple[int, int, int]) -> None:
    grid = Grid(shape, np.diag([5.0, 1.0, 1.0, 1.0]))
    volume = Volume(_phantom(_places(grid)), grid)
    field = ModelFolder(threads=1).load("discrete").predict(volume, volume, Affine.identity())
    assert np.linalg.norm(field.vectors_mm, axis=-1).max() < 1.0
