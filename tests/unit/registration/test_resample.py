"""Resampling against closed forms: what must hold exactly, on grids in every orientation."""

import threading

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import expm
from scipy.ndimage import gaussian_filter

from service.errors import FieldError
from service.registration.fields import Affine, DisplacementField, VelocityField
from service.registration.grid import Grid
from service.registration.kernels import launch
from service.registration.resample import (
    compose,
    compose_affine,
    downsample,
    integrate,
    invert,
    invert_transform,
    resample,
    resample_field,
    warp,
)
from service.registration.smoothing import smooth
from service.registration.volume import Volume
from tests.displacements import constant_field, smooth_field

INTERPOLATIONS = ("nearest", "linear", "cubic")


def centres(grid):
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), -1)
    return grid.to_world(index)


def turned(degrees, shift_mm=(0.0, 0.0, 0.0)):
    angle, matrix = np.deg2rad(degrees), np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:3, 3] = shift_mm
    return Affine(matrix)


def apart_voxels(moved_mm, expected_mm, grid):
    return np.abs((moved_mm - expected_mm) @ grid.inverse_affine[:3, :3].T).max()


@pytest.mark.parametrize("interpolation", ["nearest", "linear"])
def test_a_zero_field_gives_the_same_bits(make_grid, orientation, rng, interpolation):
    grid = make_grid(orientation)
    volume = Volume(rng.standard_normal(grid.shape).astype(np.float32), grid)
    coarse = DisplacementField.zero(grid.resampled(2.5))
    for field in (DisplacementField.zero(grid), coarse):
        assert_array_equal(warp(volume, field, grid, interpolation=interpolation).data, volume.data)
    assert_array_equal(resample(volume, grid, interpolation=interpolation).data, volume.data)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("steps", [-3, 2])
@pytest.mark.parametrize("interpolation", ["nearest", "linear"])
def test_a_shift_by_whole_voxels_moves_them_whole(
    make_grid, orientation, rng, axis, steps, interpolation
):
    grid = make_grid(orientation)
    volume = Volume(rng.integers(1, 1000, grid.shape).astype(np.int16), grid)
    field = constant_field(grid, steps * grid.affine[:3, axis])
    warped = warp(volume, field, interpolation=interpolation, fill=-7).data
    expected = np.full(grid.shape, -7)
    n = grid.shape[axis]
    kept = np.arange(max(0, -steps), min(n, n - steps))
    at = [slice(None)] * 3
    source = list(at)
    at[axis], source[axis] = kept, kept + steps
    expected[tuple(at)] = volume.data[tuple(source)]
    assert_allclose(warped, expected, atol=2e-3 if interpolation == "linear" else 0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_half_a_voxel_along_a_ramp_adds_a_half(make_grid, orientation, axis):
    grid = make_grid(orientation)
    ramp = np.indices(grid.shape)[axis].astype(np.float32)
    warped = warp(Volume(ramp, grid), constant_field(grid, 0.5 * grid.affine[:3, axis])).data
    # The last half voxel is inside and takes the border's value.
    expected = np.minimum(ramp + 0.5, grid.shape[axis] - 1)
    inside = ramp < grid.shape[axis] - 1
    assert_allclose(warped[inside], expected[inside], atol=1e-5)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_just_inside_the_edge_is_clamped_and_just_outside_is_filled(make_grid, interpolation):
    grid = make_grid(spacing_mm=(1.0, 1.0, 1.0))
    volume = Volume(np.full(grid.shape, 5, np.float32), grid)
    for share, expected in ((0.49, 5), (0.51, -1)):
        for sign, index in ((-1, 0), (1, -1)):
            field = constant_field(grid, (sign * share, 0, 0))
            assert_allclose(
                warp(volume, field, interpolation=interpolation, fill=-1).data[index],
                expected,
                atol=1e-5,
            )


def test_a_field_on_a_coarser_grid_is_upsampled_by_position(make_grid, orientation, rng):
    """Linear in the world, so that upsampling is exact and any slip of half a voxel shows."""
    grid = make_grid(orientation)
    slope = 0.02 * rng.standard_normal((3, 3))
    on = {
        g: DisplacementField(centres(g) @ slope.T, g)
        for g in (grid, grid.resampled((1.7, 2.1, 5.0)))
    }
    volume = Volume(gaussian_filter(rng.standard_normal(grid.shape), 1).astype(np.float32), grid)
    fine, coarse = (warp(volume, field, grid).data for field in on.values())
    inner = (slice(3, -3), slice(3, -3), slice(2, -2))
    assert_allclose(coarse[inner], fine[inner], atol=2e-5)


def test_an_oblique_field_grid_gives_what_resampling_it_first_gives(make_grid, rng):
    grid = make_grid("RAS")
    field = smooth_field(make_grid("oblique", shape=(20, 22, 18), spacing_mm=(2, 1.5, 3)), rng, 3)
    volume = Volume(rng.standard_normal(grid.shape).astype(np.float32), grid)
    assert_allclose(
        warp(volume, field, grid).data, warp(volume, resample_field(field, grid)).data, atol=1e-3
    )


def test_warp_is_volume_of_affine_of_field(make_grid, orientation, rng):
    """A volume that is linear in the world tells where each voxel was sampled."""
    grid = make_grid(orientation)
    field, affine = smooth_field(grid, rng, 4), turned(7, (1, -2, 0.5))
    moving = make_grid(orientation, shape=(60, 60, 60), spacing_mm=(1.5, 1.5, 3.0))
    moving = Grid(
        moving.shape,
        moving.affine + np.pad((grid.centre_mm - moving.centre_mm)[:, None], ((0, 1), (3, 0))),
    )
    sampled = [
        warp(
            Volume(centres(moving)[..., c].astype(np.float32), moving),
            field,
            affine=affine,
            fill=np.nan,
        ).data
        for c in range(3)
    ]
    expected = affine.move(field.move(centres(grid)))
    kept = np.isfinite(sampled[0])
    assert kept.mean() > 0.5
    assert apart_voxels(np.stack(sampled, -1)[kept], expected[kept], moving) < 1e-3


def test_composing_two_fields_moves_points_one_after_the_other(make_grid, orientation, rng):
    inner_grid, outer_grid = make_grid(orientation), make_grid(orientation, (25, 30, 21), (1, 1, 4))
    inner, outer = smooth_field(inner_grid, rng, 2), smooth_field(outer_grid, rng, 3)
    points = centres(inner_grid)
    both = compose(outer, inner)
    assert apart_voxels(both.move(points), outer.move(inner.move(points)), inner_grid) < 1e-3


def test_composing_an_affine_moves_points_by_field_then_affine(make_grid, orientation, rng):
    field, affine = smooth_field(make_grid(orientation), rng, 3), turned(20, (5, 3, -8))
    points = centres(field.grid)
    moved = compose_affine(affine, field).move(points)
    assert apart_voxels(moved, affine.move(field.move(points)), field.grid) < 1e-3


def test_an_affine_composed_onto_a_finer_grid_is_exact_beyond_the_field(
    make_grid, orientation, rng
):
    field = DisplacementField.zero(make_grid(orientation))
    grid, affine = make_grid(orientation, (70, 20, 9), (0.5, 2, 11)), turned(30, (5, 3, -8))
    moved = centres(grid) + compose_affine(affine, field, grid).vectors_mm
    assert apart_voxels(moved, affine.move(centres(grid)), grid) < 1e-3


@pytest.mark.parametrize("degrees", [0, 20])
def test_what_overflows_is_no_field(make_grid, degrees):
    grid = make_grid()
    target = Grid(grid.shape, turned(degrees).matrix @ grid.affine)
    wide = Affine(np.diag([9.0, 1.0, 1.0, 1.0]))
    with pytest.raises(FieldError):
        compose_affine(wide, constant_field(grid, (1e38, 0, 0)), target)
    fine = make_grid(spacing_mm=(0.5, 0.5, 0.5))  # there are more of its voxels in a shift than mm
    with pytest.raises(FieldError):
        invert_transform(wide, constant_field(fine, (3e38, 0, 0)), target)


def test_a_resampled_field_still_moves_points_the_same_way(make_grid, orientation, rng):
    field = smooth_field(make_grid(orientation), rng, 3)
    grid = make_grid(orientation, (40, 20, 30), (0.4, 1.1, 2.0))
    points = centres(grid)
    inside = field.grid.contains(points)
    resampled = resample_field(field, grid).vectors_mm
    assert_allclose(resampled[inside], field.at(points)[inside], atol=1e-4)


@pytest.mark.parametrize("name", ["rotation", "scaling", "shear"])
def test_a_linear_velocity_integrates_to_the_matrix_exponential(make_grid, orientation, name):
    generator = {
        "rotation": [[0, -0.2, 0], [0.2, 0, 0.1], [0, -0.1, 0]],
        "scaling": np.diag([0.1, -0.15, 0.08]),
        "shear": [[0, 0.2, 0], [0, 0, 0], [0.1, 0, 0]],
    }[name]
    grid = make_grid(orientation, shape=(40, 30, 24), spacing_mm=(1, 1.3, 2))
    offsets = centres(grid) - grid.centre_mm
    field = integrate(VelocityField(offsets @ np.array(generator).T, grid), steps=8)
    expected = offsets @ expm(np.array(generator)).T + grid.centre_mm
    inner = (slice(12, -12), slice(10, -10), slice(8, -8))
    moved = centres(grid) + field.vectors_mm
    # Scaling and squaring starts from one Euler step: its error is of order |v| / 2**steps.
    assert apart_voxels(moved[inner], expected[inner], grid) < 0.01


def test_velocity_and_its_opposite_integrate_to_inverses(make_grid, orientation, rng):
    grid = make_grid(orientation, shape=(40, 36, 30), spacing_mm=(1, 1.3, 2))
    vectors = smooth_field(grid, rng, 4, sigma=5).vectors_mm
    there, back = (integrate(VelocityField(sign * vectors, grid)) for sign in (1, -1))
    apart = compose(back, there).vectors_mm[8:-8, 8:-8, 8:-8]
    assert np.abs(apart).max() < 0.1


def test_an_inverted_field_brings_points_back(make_grid, orientation, rng):
    grid = make_grid(orientation, shape=(40, 36, 30), spacing_mm=(1, 1.3, 2))
    field = smooth_field(grid, rng, 5, sigma=4)
    inverse = invert(field)
    points = centres(grid)[8:-8, 8:-8, 8:-8]
    assert inverse.residual_mm < 0.01
    assert apart_voxels(field.move(inverse.field.move(points)), points, grid) < 0.01


def test_inverting_a_translation_negates_it(make_grid, orientation):
    field = constant_field(make_grid(orientation), (3.0, -2.0, 5.0))
    assert_allclose(invert(field).field.vectors_mm, -field.vectors_mm, atol=1e-5)


def test_a_field_without_an_inverse_reports_how_far_it_is_from_one(make_grid, rng):
    grid = make_grid(spacing_mm=(1, 1, 1))
    vectors = 4 * rng.standard_normal((*grid.shape, 3)).astype(np.float32)
    assert invert(DisplacementField(vectors, grid)).residual_mm > 0.5


def test_the_inverse_of_a_whole_transform_lies_on_the_moving_grid(make_grid, orientation, rng):
    fixed = make_grid(orientation, shape=(40, 36, 30), spacing_mm=(1, 1.3, 2))
    field, affine = smooth_field(fixed, rng, 3, sigma=5), turned(15, (4, -3, 6))
    moving = make_grid(orientation, shape=(50, 44, 28), spacing_mm=(0.9, 1.2, 2.2))
    inverse = invert_transform(affine, field, moving)
    assert inverse.grid is moving
    points = fixed.to_world(rng.uniform(8, np.array(fixed.shape) - 9, (500, 3)))
    there = affine.move(field.move(points))
    # Not the outermost half voxel, where a field is clamped and cannot follow the rotation.
    index = moving.to_voxel(there)
    kept = ((index >= 0) & (index <= np.array(moving.shape) - 1)).all(-1)
    assert kept.sum() > 100
    assert apart_voxels(inverse.move(there[kept]), points[kept], fixed) < 0.03
    targets = centres(moving)
    back = targets + inverse.vectors_mm
    index = fixed.to_voxel(back)
    inside = ((index > 0) & (index < np.array(fixed.shape) - 1)).all(-1)
    returned = affine.move(field.move(back[inside]))
    assert apart_voxels(returned, targets[inside], moving) < 0.03


def test_smoothing_is_scipys_gaussian_away_from_the_border(make_grid, rng):
    grid = make_grid(shape=(40, 36, 30), spacing_mm=(1, 1.3, 2))
    volume = Volume(rng.standard_normal(grid.shape).astype(np.float32), grid)
    expected = gaussian_filter(volume.data.astype(np.float64), 2.0 / grid.spacing_mm)
    inner = (slice(9, -9), slice(7, -7), slice(5, -5))
    assert_allclose(smooth(volume, 2.0).data[inner], expected[inner], atol=1e-4)


def test_smoothing_keeps_a_constant_up_to_the_border(make_grid):
    volume = Volume(np.full((31, 24, 19), 7, np.int16), make_grid())
    assert_allclose(smooth(volume, 5.0).data, 7, rtol=1e-5)


def test_no_smoothing_leaves_the_values(make_grid, rng):
    volume = Volume(rng.standard_normal((31, 24, 19)).astype(np.float32), make_grid())
    assert_array_equal(smooth(volume, 0.0).data, volume.data)


@pytest.mark.parametrize("other", ["same", "oblique"])
def test_downsampling_keeps_positions(make_grid, orientation, other):
    """A volume that is linear in the world stays so."""
    grid = make_grid(orientation, shape=(40, 36, 30), spacing_mm=(1, 1.3, 2))
    slope = np.array([0.3, -0.2, 0.5])
    volume = Volume((centres(grid) @ slope).astype(np.float32), grid)
    coarse = grid.resampled((3.0, 3.0, 4.0))
    if other == "oblique":
        coarse = Grid(
            (5, 5, 5),
            turned(10, grid.centre_mm - turned(10).move(grid.centre_mm)).matrix
            @ grid.resampled(4.0).affine,
        )
    points = centres(coarse)
    index = grid.to_voxel(points)
    inner = ((index > 6) & (index < np.array(grid.shape) - 7)).all(-1)
    assert inner.any()
    assert_allclose(downsample(volume, coarse).data[inner], (points @ slope)[inner], atol=2e-3)


def test_downsampling_removes_what_would_alias(make_grid):
    grid = make_grid(shape=(48, 40, 32), spacing_mm=(1, 1, 1))
    checks = np.indices(grid.shape).sum(0) % 2
    coarse = downsample(Volume(checks.astype(np.float32), grid), grid.resampled(2.0))
    assert_allclose(coarse.data[3:-3, 3:-3, 3:-3], 0.5, atol=0.01)


def test_coarse_voxels_beyond_the_volume_are_zero(make_grid):
    grid = make_grid(shape=(20, 20, 20), spacing_mm=(1, 1, 1))
    coarse = make_grid(shape=(20, 5, 5), spacing_mm=(2, 2, 2))
    data = downsample(Volume(np.ones(grid.shape, np.float32), grid), coarse).data
    assert_allclose(data[:10], 1, rtol=1e-5)
    assert not data[11:].any()


def noise_and_field(grid, rng):
    noise = rng.standard_normal(grid.shape).astype(np.float32)
    return Volume(noise, grid), smooth_field(grid, rng, 3)


def test_two_threads_can_warp_at_once(make_grid, rng):
    volume, field = noise_and_field(make_grid(), rng)
    expected, results = warp(volume, field).data, []

    def work():
        results.extend(warp(volume, field).data for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 80
    assert all(np.array_equal(result, expected) for result in results)


def test_one_thread_gives_the_same_bits_as_all(make_grid, rng):
    volume, field = noise_and_field(make_grid(), rng)
    expected = warp(volume, field).data
    launch.set_threads(1)
    try:
        assert_array_equal(warp(volume, field).data, expected)
    finally:
        launch.set_threads(None)
