"""What moves points, against formulas, scipy and SimpleITK."""

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import map_coordinates

from service.errors import BadTransformError, FieldError
from service.registration.fields import Affine, DisplacementField, VelocityField

LPS = np.diag([-1.0, -1.0, 1.0])


def random_affine(rng):
    matrix = np.eye(4)
    matrix[:3, :3] += 0.2 * rng.standard_normal((3, 3))
    matrix[:3, 3] = rng.uniform(-20, 20, 3)
    return Affine(matrix)


def test_an_affine_and_its_inverse_undo_each_other(rng):
    affine, points = random_affine(rng), rng.uniform(-50, 50, (20, 3))
    assert_allclose(affine.inverse().move(affine.move(points)), points, atol=1e-9)


def test_composition_applies_the_inner_affine_first(rng):
    outer, inner, points = random_affine(rng), random_affine(rng), rng.uniform(-50, 50, (20, 3))
    assert_allclose((outer @ inner).move(points), outer.move(inner.move(points)), atol=1e-9)


@pytest.mark.parametrize(
    "matrix",
    [np.zeros((4, 4)), np.eye(3), np.full((4, 4), np.nan), np.diag([1.0, 1.0, 0.0, 1.0])],
)
def test_a_matrix_that_is_no_affine_is_refused(matrix):
    with pytest.raises(BadTransformError):
        Affine(matrix)


def test_an_affine_keeps_its_own_frozen_copy():
    matrix = np.eye(4)
    affine = Affine(matrix)
    matrix[0, 3] = 5
    assert affine.matrix[0, 3] == 0
    with pytest.raises(ValueError, match="read-only"):
        affine.matrix[0, 3] = 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_field_with_a_value_that_is_not_finite_is_refused(make_grid, bad):
    grid = make_grid()
    vectors = np.zeros((*grid.shape, 3), np.float32)
    vectors[3, 2, 1, 0] = bad
    for kind in (DisplacementField, VelocityField):
        with pytest.raises(FieldError):
            kind(vectors, grid)


def test_infinities_that_cancel_in_a_sum_are_refused(make_grid):
    grid = make_grid()
    vectors = np.zeros((*grid.shape, 3), np.float32)
    vectors[3, 2, 1, :2] = np.inf, -np.inf
    with pytest.raises(FieldError):
        DisplacementField(vectors, grid)


def test_large_finite_values_whose_sum_overflows_are_accepted(make_grid):
    grid = make_grid()
    DisplacementField(np.full((*grid.shape, 3), 3e38, np.float32), grid)


def test_vectors_of_another_shape_are_refused(make_grid):
    with pytest.raises(FieldError):
        DisplacementField(np.zeros((4, 4, 4, 3), np.float32), make_grid())


def test_points_move_as_scipy_interpolates(make_grid, orientation, rng):
    grid = make_grid(orientation)
    field = DisplacementField(rng.standard_normal((*grid.shape, 3)).astype(np.float32), grid)
    index = rng.uniform(-0.5, np.array(grid.shape) - 0.5, (200, 3))
    expected = np.stack(
        [
            map_coordinates(field.vectors_mm[..., c], index.T, order=1, mode="nearest")
            for c in range(3)
        ],
        -1,
    )
    points = grid.to_world(index)
    assert_allclose(field.move(points), points + expected, atol=1e-5)


def test_points_move_as_itk_moves_them(make_grid, orientation, rng):
    grid = make_grid(orientation)
    vectors = rng.standard_normal((*grid.shape, 3)).astype(np.float32)
    image = sitk.GetImageFromArray(
        np.ascontiguousarray((vectors @ LPS).transpose(2, 1, 0, 3).astype(np.float64)),
        isVector=True,
    )
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetDirection((LPS @ grid.directions).ravel().tolist())
    image.SetOrigin((LPS @ grid.affine[:3, 3]).tolist())
    transform = sitk.DisplacementFieldTransform(image)
    # Reaching beyond the grid on every side, where nothing moves.
    points = grid.to_world(rng.uniform(-3, np.array(grid.shape) + 2, (300, 3)))
    theirs = np.array([transform.TransformPoint((LPS @ p).tolist()) for p in points]) @ LPS
    assert_allclose(DisplacementField(vectors, grid).move(points), theirs, atol=1e-5)


def test_a_field_one_voxel_thick_moves_points_inside_that_voxel_only(make_grid):
    grid = make_grid(shape=(5, 4, 1))
    field = DisplacementField(np.ones((5, 4, 1, 3), np.float32), grid)
    points = grid.to_world(np.array([[2, 2, 0.4], [2, 2, 0.6], [np.nan, 0, 0]]))
    assert_array_equal(field.at(points), [[1, 1, 1], [0, 0, 0], [0, 0, 0]])
