"""Evening out spreads the growth of volumes and leaves what keeps volumes alone."""

import numpy as np
from scipy import ndimage

from service.registration.kernels.evenness import MARGIN, even_out, growth

SHAPE = (20, 18, 23)
INNER = (slice(MARGIN, -MARGIN),) * 3
DEEP = (slice(MARGIN + 3, -MARGIN - 3),) * 3
EVENLY = np.ones(3, np.float32)


def padded(field: np.ndarray) -> np.ndarray:
    """With a margin that repeats the outermost values, float32."""
    return np.stack([np.pad(part, MARGIN, mode="edge") for part in field]).astype(np.float32)


def bumps(rng: np.random.Generator) -> np.ndarray:
    """Random displacements of a few voxels' width, in voxels."""
    noise = [ndimage.gaussian_filter(rng.standard_normal(SHAPE), 1.5) for _ in range(3)]
    return padded(0.3 * np.stack(noise) / np.std(noise))


def determinants(field: np.ndarray) -> np.ndarray:
    derivative = np.stack([np.stack(np.gradient(part)) for part in field.astype(np.float64)])
    moved = np.moveaxis(derivative, (0, 1), (-2, -1)) + np.eye(3)
    return np.asarray(np.linalg.det(moved))


def as_planes(array: np.ndarray) -> np.ndarray:
    return array.reshape(*array.shape[:-2], -1)


def growth_of(field: np.ndarray) -> np.ndarray:
    out = np.zeros(field.shape[1:], np.float32)
    growth(as_planes(field), field.shape[3], as_planes(out))
    return out


def evened(field: np.ndarray, share: float) -> np.ndarray:
    field = field.copy()
    planes = as_planes(field)
    even_out(as_planes(growth_of(field)), share * EVENLY, field.shape[3], planes)
    return field


def test_growth_is_the_determinants_near_logarithm_smoothed(rng: np.random.Generator) -> None:
    field = bumps(rng)
    plain = determinants(field)
    expected = 3 * (plain**2 - 1) / (plain**2 + 4 * plain + 1)
    for axis in (1, 2):
        expected = ndimage.convolve1d(expected, [0.25, 0.5, 0.25], axis)
    assert np.abs(growth_of(field) - expected)[DEEP].max() < 1e-5
    assert np.abs(expected[DEEP]).max() > 0.2


def test_growth_is_the_logarithm_and_bounded_where_volumes_fold() -> None:
    index = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")) - 9.0
    for factor, tolerance in ((0.5, 1e-3), (0.9, 1e-5), (1.0, 1e-6), (2.0, 1e-3), (5.0, 0.05)):
        found = growth_of(padded((np.cbrt(factor) - 1) * index))[DEEP]
        assert np.abs(found - np.log(factor)).max() < tolerance
    assert np.abs(growth_of(padded(-2.0 * index))[DEEP] + 3).max() < 1e-5


def test_a_step_follows_the_gradient_of_what_is_smoothed(rng: np.random.Generator) -> None:
    field = bumps(rng)
    smoothed = ndimage.convolve1d(growth_of(field).astype(np.float64), [0.25, 0.5, 0.25], 0)
    added = evened(field, 0.1) - field
    for axis in range(3):
        expected = 0.1 * np.gradient(smoothed, axis=axis)
        assert np.abs(added[axis] - expected)[DEEP].max() < 1e-5


def test_volumes_become_more_even_step_by_step(rng: np.random.Generator) -> None:
    field = bumps(rng)
    spreads = []
    for _ in range(6):
        spreads.append(float(np.log(determinants(field)[DEEP]).std()))
        field = evened(field, 0.7)
    assert (np.diff(spreads) < 0).all()
    assert spreads[-1] < 0.5 * spreads[0]


def test_what_keeps_volumes_stays_and_the_margin_repeats_the_inside() -> None:
    """A turn and a shear together, and growth that is the same everywhere."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")) - 9.0
    turn = np.array([[np.cos(0.2), -np.sin(0.2), 0], [np.sin(0.2), np.cos(0.2), 0], [0, 0, 1]])
    shear = np.array([[1, 0, 0.15], [0, 1, 0], [0, 0, 1]])
    for linear in (turn @ shear, 1.1 * np.eye(3)):
        field = padded(np.einsum("ab,bijk->aijk", linear - np.eye(3), index))
        after = evened(field, 0.7)
        assert np.abs(after - field)[(slice(None), *DEEP)].max() < 1e-5
        np.testing.assert_array_equal(after, padded(after[(slice(None), *INNER)]))
