"""Known motions of a real brain are found again, from far starts, other grids and contrasts."""

from collections.abc import Sequence
from importlib.resources import files

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from service.errors import JobCancelledError
from service.registration.fields import Affine
from service.registration.grid import Grid
from service.registration.initialise import initialise
from service.registration.options import Initialise
from service.registration.volume import Volume

TEMPLATE = "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
OBLIQUE = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])
STRETCH = np.array([[1.1, 0.05, 0.0], [0.0, 0.92, -0.04], [0.03, 0.0, 1.05]])
HALF_EXTENT_MM = np.array([98.0, 117.0, 94.0])
VOXEL_MM = 2.8  # the finest spacing below
ROTATIONS_DEG = [(30, 0, 0), (0, -30, 0), (0, 0, 30), (17, -17, 17)]


@pytest.fixture(scope="module")
def brain() -> Volume:
    """The MNI152 T1 template that nilearn carries, every third voxel of a smoothed copy."""
    pytest.importorskip("nilearn", reason="the template comes with the demo extra")
    image = nib.load(str(files("nilearn.datasets") / "data" / TEMPLATE))
    smooth = ndimage.gaussian_filter(np.asarray(image.dataobj, dtype=np.float32), 1.2)
    affine = image.affine @ np.diag([3.0, 3.0, 3.0, 1.0])
    data = np.ascontiguousarray(smooth[::3, ::3, ::3])
    return Volume(data, Grid(data.shape, affine))


def grid_about(
    centre_mm: np.ndarray,
    shape: tuple[int, int, int],
    spacing_mm: Sequence[float],
    axes: np.ndarray | None = None,
) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if axes is None else axes) * np.asarray(spacing_mm)
    affine[:3, 3] = centre_mm - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


def seen_on(volume: Volume, grid: Grid, matrix: np.ndarray) -> Volume:
    """volume(matrix x) on the grid, by scipy."""
    x = grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1))
    at = volume.grid.to_voxel(x @ matrix[:3, :3].T + matrix[:3, 3])
    data = ndimage.map_coordinates(volume.data, np.moveaxis(at, -1, 0), order=1, mode="constant")
    return Volume(data.astype(np.float32), grid)


def motion(
    rotation_deg: Sequence[float], shift_mm: np.ndarray, about_mm: np.ndarray, *, stretched: bool
) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(np.deg2rad(rotation_deg)).as_matrix()
    if stretched:
        matrix[:3, :3] = matrix[:3, :3] @ STRETCH
    matrix[:3, 3] = about_mm - matrix[:3, :3] @ about_mm + shift_mm
    return matrix


def worst_error_mm(found: Affine, truth: np.ndarray, brain: Volume) -> float:
    points = brain.grid.to_world(np.argwhere(brain.data > 60)[::50])
    expected = points @ truth[:3, :3].T + truth[:3, 3]
    return float(np.linalg.norm(found.move(points) - expected, axis=1).max())


@pytest.mark.parametrize("inverted", [False, True], ids=["same contrast", "inverted contrast"])
@pytest.mark.parametrize("how", ["rigid", "affine"])
@pytest.mark.parametrize("rotation_deg", ROTATIONS_DEG, ids=str)
def test_a_turned_and_shifted_brain_is_found_on_another_grid(
    brain: Volume, rotation_deg: tuple[int, int, int], how: str, inverted: bool
) -> None:
    centre = brain.grid.centre_mm
    truth = motion(rotation_deg, HALF_EXTENT_MM, centre, stretched=how == "affine")
    fixed = seen_on(brain, grid_about(centre, (70, 84, 52), (2.8, 2.8, 4.0)), np.eye(4))
    there = grid_about(centre + HALF_EXTENT_MM, (75, 70, 84), (3.0, 3.5, 2.8), OBLIQUE)
    moving = seen_on(brain, there, np.linalg.inv(truth))
    if inverted:
        moving = moving.with_data(moving.data.max() - moving.data)
    found = initialise(fixed, moving, how)  # type: ignore[arg-type]
    assert worst_error_mm(found, truth, brain) < VOXEL_MM


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sign", [-1, 1])
def test_half_a_brain_is_enough(brain: Volume, axis: int, sign: int) -> None:
    """The field of view stays where it was, so half of what moves leaves it."""
    shift = np.zeros(3)
    shift[axis] = sign * HALF_EXTENT_MM[axis]
    centre = brain.grid.centre_mm
    truth = motion((0, 12, 12), shift, centre, stretched=False)
    fixed = seen_on(brain, grid_about(centre, (70, 84, 52), (2.8, 2.8, 4.0)), np.eye(4))
    window = grid_about(centre, (66, 78, 63), (3.0, 3.0, 3.0))
    moving = seen_on(brain, window, np.linalg.inv(truth))
    assert worst_error_mm(initialise(fixed, moving, "rigid"), truth, brain) < VOXEL_MM


def test_headers_that_are_right_stay_right(brain: Volume) -> None:
    """A crop whose masses mislead: the upper front of the head against all of it."""
    centre = brain.grid.centre_mm
    fixed = seen_on(brain, grid_about(centre, (70, 84, 70), (2.8, 2.8, 2.8)), np.eye(4))
    crop = grid_about(centre + np.array([20, 35, 25]), (40, 40, 36), (2.8, 2.8, 2.8))
    moving = seen_on(brain, crop, np.eye(4))
    points = crop.to_world(np.argwhere(moving.data > 60)[::50])
    found = initialise(fixed, moving, "affine")
    assert np.linalg.norm(found.move(points) - points, axis=1).max() < VOXEL_MM


def test_centre_and_moments_are_shifts_by_hand() -> None:
    """A bright box in the middle of one volume, off it by (4, -2, 6) mm in the other."""
    here, there = np.zeros((20, 20, 20), np.float32), np.zeros((20, 20, 20), np.float32)
    here[6:14, 6:14, 6:14] = 1
    there[8:16, 5:13, 9:17] = 1
    grid = Grid((20, 20, 20), np.diag([2.0, 2.0, 2.0, 1.0]))
    away = np.diag([2.0, 2.0, 2.0, 1.0])
    away[:3, 3] = (100, 0, -50)
    fixed, moving = Volume(here, grid), Volume(there, Grid((20, 20, 20), away))
    assert np.allclose(initialise(fixed, moving, "none").matrix, np.eye(4))
    assert np.allclose(initialise(fixed, moving, "centre").matrix[:3, 3], (100, 0, -50))
    moments = initialise(fixed, moving, "moments").matrix
    assert np.allclose(moments[:3, 3], (104, -2, -44), atol=0.5)
    assert np.allclose(moments[:3, :3], np.eye(3))


@pytest.mark.parametrize("how", ["moments", "rigid", "affine"])
@pytest.mark.parametrize("shape", [(20, 20, 20), (1, 30, 2)])
def test_volumes_without_contrast_give_a_sane_answer(how: str, shape: tuple[int, int, int]) -> None:
    flat = Volume(np.full(shape, 7, np.int16), Grid(shape, np.eye(4)))
    found = initialise(flat, flat, how)  # type: ignore[arg-type]
    assert np.allclose(found.matrix, np.eye(4), atol=1e-6)


def test_no_answer_mirrors_or_stretches_beyond_two(rng: np.random.Generator) -> None:
    grid = grid_about(np.zeros(3), (24, 24, 24), (2.0, 2.0, 2.0))
    for _ in range(3):
        noise = [ndimage.gaussian_filter(rng.standard_normal(grid.shape), 1.5) for _ in range(2)]
        found = initialise(Volume(noise[0], grid), Volume(noise[1], grid), "affine")
        scales = np.linalg.svd(found.matrix[:3, :3], compute_uv=False)
        assert np.linalg.det(found.matrix[:3, :3]) > 0
        assert scales.max() <= 2.0
        assert scales.min() >= 0.5


@pytest.mark.parametrize("seed", [9, 11, 14])
def test_specks_with_nothing_in_common_overflow_no_step(seed: int) -> None:
    """Where almost nothing varies a Gauss-Newton step has no bounds."""
    rng = np.random.default_rng(seed)
    grid = grid_about(np.zeros(3), (24, 24, 24), (2.0, 2.0, 2.0))
    specks = [np.zeros(grid.shape, np.float32) for _ in range(2)]
    for volume in specks:
        volume.flat[rng.integers(0, volume.size, 3)] = 1e3
    found = initialise(Volume(specks[0], grid), Volume(specks[1], grid), "affine")
    assert np.isfinite(found.matrix).all()


def test_a_mask_hides_what_moved_otherwise(brain: Volume) -> None:
    """The lower half of the moving brain is another one; the fixed mask covers the upper half."""
    centre = brain.grid.centre_mm
    truth = motion((0, 10, 5), np.array([12.0, -8.0, 6.0]), centre, stretched=False)
    grid = grid_about(centre, (66, 78, 63), (3.0, 3.0, 3.0))
    fixed, moving = seen_on(brain, grid, np.eye(4)), seen_on(brain, grid, np.linalg.inv(truth))
    other = seen_on(
        brain, grid, np.linalg.inv(motion((0, 0, 0), np.zeros(3), centre, stretched=False))
    )
    spoilt = moving.data.copy()
    spoilt[:, :, :26] = other.data[:, :, :26]
    upper = np.zeros(grid.shape, np.uint8)
    upper[:, :, 30:] = 1
    found = initialise(fixed, moving.with_data(spoilt), "rigid", fixed_mask=Volume(upper, grid))
    points = grid.to_world(np.argwhere((fixed.data > 60) & (upper > 0))[::50])
    expected = points @ truth[:3, :3].T + truth[:3, 3]
    assert np.linalg.norm(found.move(points) - expected, axis=1).max() < VOXEL_MM


def test_it_is_deterministic_and_can_be_stopped(brain: Volume) -> None:
    grid = grid_about(brain.grid.centre_mm, (50, 60, 48), (4.0, 4.0, 4.0))
    fixed = seen_on(brain, grid, np.eye(4))
    truth = motion((0, 10, 5), np.array([12.0, -8.0, 6.0]), grid.centre_mm, stretched=True)
    moving = seen_on(brain, grid, np.linalg.inv(truth))
    first, second = (initialise(fixed, moving, "affine").matrix for _ in range(2))
    assert first.tobytes() == second.tobytes()

    def stop(_stage: str, _fraction: float) -> None:
        raise JobCancelledError

    with pytest.raises(JobCancelledError):
        initialise(fixed, moving, "affine", watch=stop)


@pytest.mark.parametrize("how", ["rigid", "affine"])
def test_single_slices_are_aligned_in_their_plane(
    how: Initialise, rng: np.random.Generator
) -> None:
    """A turn by 12 degrees in an oblique plane, shifts in it and along its normal."""
    affine = np.eye(4)
    affine[:3, :3] = OBLIQUE * np.array([1.5, 1.5, 5.0])
    affine[:3, 3] = (20.0, -10.0, 30.0)
    fixed_grid = Grid((80, 70, 1), affine)
    angle = np.deg2rad(12)
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    truth = np.eye(4)
    truth[:3, :3] = OBLIQUE @ turn @ OBLIQUE.T
    centre = fixed_grid.centre_mm
    truth[:3, 3] = centre - truth[:3, :3] @ centre + OBLIQUE @ (4.0, -6.0, 25.0)
    away = np.eye(4)
    away[:3, 3] = OBLIQUE[:, 2] * 25.0
    moving_grid = Grid((80, 70, 1), away @ affine)
    spots = rng.uniform(-45, 45, (40, 2)) @ OBLIQUE[:, :2].T + centre

    def scene(points_mm: np.ndarray) -> np.ndarray:
        squares = ((points_mm[..., None, :] - spots) ** 2).sum(axis=-1)
        return np.exp(-squares / (2 * 6.0**2)).sum(axis=-1).astype(np.float32)

    def places(grid: Grid) -> np.ndarray:
        return grid.to_world(np.stack(np.indices(grid.shape), axis=-1))

    fixed = Volume(scene(places(fixed_grid)), fixed_grid)
    moving = Volume(scene(Affine(truth).inverse().move(places(moving_grid))), moving_grid)
    found = initialise(fixed, moving, how)
    points = places(fixed_grid)[10:-10:10, 10:-10:10].reshape(-1, 3)
    apart = (found.move(points) - Affine(truth).move(points)) @ OBLIQUE
    assert np.abs(apart).max() < 0.6, apart  # mm, of voxels of 1.5
    assert np.abs(apart[:, 2]).max() < 1e-6
