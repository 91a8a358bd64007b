"""Inverting fields that a plain fixed-point iteration cannot invert."""

import numpy as np
import pytest

from service.registration.fields import DisplacementField
from service.registration.grid import Grid
from service.registration.regularity import regularity
from service.registration.resample import invert

GRID = Grid((64, 20, 18), np.diag([1.0, 1.5, 2.0, 1.0]))


def squeezed_and_torn(least: float) -> DisplacementField:
    """x goes to x + a sin(w x) along i: its slope runs from `least` to 2 - `least`."""
    wave = 2 * np.pi / 32
    x = np.arange(GRID.shape[0], dtype=np.float64)
    vectors = np.zeros((*GRID.shape, 3), np.float32)
    vectors[..., 0] = ((1 - least) / wave * np.sin(wave * x))[:, None, None]
    return DisplacementField(vectors, GRID)


def torn(most: float) -> DisplacementField:
    """A slope of `most` in the middle: neighbours end up that many voxels apart."""
    x = np.arange(GRID.shape[0], dtype=np.float64) - 31.5
    vectors = np.zeros((*GRID.shape, 3), np.float32)
    vectors[..., 0] = ((most - 1) * 4 * np.tanh(x / 4))[:, None, None]
    return DisplacementField(vectors, GRID)


@pytest.mark.parametrize(
    "field",
    [squeezed_and_torn(0.5), squeezed_and_torn(0.1), torn(2.5), torn(4.0)],
    ids=["slope 0.5 to 1.5", "slope 0.1 to 1.9", "slope 2.5", "slope 4"],
)
def test_a_field_that_folds_nowhere_is_inverted_everywhere(field: DisplacementField) -> None:
    assert regularity(field).determinants.data.min() > 0
    inverse = invert(field)
    assert inverse.residual_mm < 0.01
    # By hand, in one dimension: numpy's interpolation of the map turned round.
    x = np.arange(GRID.shape[0], dtype=np.float64)
    moved = x + field.vectors_mm[:, 9, 9, 0]
    inner = (x > moved[0]) & (x < moved[-1])
    expected = np.interp(x[inner], moved, x) - x[inner]
    np.testing.assert_allclose(inverse.field.vectors_mm[inner, 9, 9, 0], expected, atol=0.01)
