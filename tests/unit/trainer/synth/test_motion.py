"""Random maps against scipy, formulas, and their own inverse."""

import numpy as np
import pytest
from scipy import ndimage

torch = pytest.importorskip("torch")

from trainer.config.synth import SynthAffineConfig, SynthFieldConfig  # noqa: E402
from trainer.synth.motion import Motion, random_motion  # noqa: E402

CASES = [((20, 26, 17), (2.0, 1.5, 3.0)), ((30, 22), (1.0, 2.0))]
AFFINE = SynthAffineConfig(rotation_degrees=20, scale=0.1, shear=0.1, translation_mm=4)
FIELD = SynthFieldConfig(strength_mm=4, node_mm=(20, 30))
STILL = SynthAffineConfig(rotation_degrees=0, scale=0, shear=0, translation_mm=0)
FLAT = SynthFieldConfig(strength_mm=0)


def _motion(case, seed=0, affine=AFFINE, field=FIELD) -> Motion:
    return random_motion(affine, field, *case, torch.Generator().manual_seed(seed))


def _mapped(motion: Motion, places: np.ndarray) -> np.ndarray:
    """A(x + e(x)) at any places (d, ...), e interpolated by scipy from the voxels."""
    ndim = len(motion.size)
    e = motion.field.reshape(3, *motion.size)[3 - ndim :]
    sampled = np.stack([ndimage.map_coordinates(part, places, order=1) for part in e])
    moved = (places + sampled).reshape(ndim, -1)
    matrix = motion.affine.numpy()
    return (matrix[:, :ndim] @ moved + matrix[:, ndim:]).reshape(places.shape)


def _grid(size: tuple[int, ...]) -> np.ndarray:
    return np.stack(np.meshgrid(*map(np.arange, size), indexing="ij")).astype(np.float64)


@pytest.mark.parametrize("case", CASES)
def test_labels_are_taken_from_the_nearest_voxel(case):
    motion = _motion(case)
    given = np.random.default_rng(0).integers(1, 9, motion.size).astype(np.int32)
    places = np.floor(_mapped(motion, _grid(motion.size)) + 0.5)
    expected = ndimage.map_coordinates(given, places, order=0, cval=0)
    found = motion.labels(torch.from_numpy(given)).numpy()
    assert (found == expected).mean() > 0.999  # halves and rounding
    assert 0 < (found == 0).mean() < 0.5


@pytest.mark.parametrize("case", CASES)
def test_the_displacement_leads_to_the_same_point_of_the_map(case):
    one, other = _motion(case, 1), _motion(case, 2)
    u = one.displacement_to(other).numpy()
    assert np.abs(u).max() > 1
    grid = _grid(one.size)
    there = grid + u
    last = np.array(one.size).reshape(-1, *[1] * len(one.size)) - 1
    inside = ((there >= 0) & (there <= last)).all(axis=0)
    apart = np.linalg.norm(_mapped(other, there) - _mapped(one, grid), axis=0)[inside]
    assert apart.max() < 0.25  # voxels; the inverse is interpolated between cells
    assert apart.mean() < 0.05


def test_an_affine_alone_is_undone_exactly():
    one, other = _motion(CASES[0], 3, field=FLAT), _motion(CASES[0], 4, field=FLAT)
    square = [np.vstack([m.affine.numpy(), [0, 0, 0, 1]]) for m in (one, other)]
    matrix = np.linalg.inv(square[1]) @ square[0]
    grid = _grid(one.size)
    expected = np.einsum("ij,j...->i...", matrix[:3, :3], grid) + matrix[:3, 3, None, None, None]
    np.testing.assert_allclose(one.displacement_to(other), expected - grid, atol=1e-3)


def test_turns_keep_millimetres_on_anisotropic_voxels():
    turning = STILL.model_copy(update={"rotation_degrees": 30.0})
    affine = _motion(CASES[0], 5, affine=turning).affine.numpy()
    spacing = np.array(CASES[0][1])
    turn = affine[:, :3] * spacing[:, None] / spacing
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-5)
    centre = (np.array(CASES[0][0]) - 1) / 2
    np.testing.assert_allclose(affine[:, :3] @ centre + affine[:, 3], centre, atol=1e-4)


def test_zeros_switch_motion_off():
    motion = _motion(CASES[0], affine=STILL, field=FLAT)
    given = torch.arange(20 * 26 * 17, dtype=torch.int32).reshape(20, 26, 17)
    assert torch.equal(motion.labels(given), given)
