"""A step in two launches is what its kernels make one by one."""

import numpy as np
import pytest

from service.registration.descent import tap_weights
from service.registration.kernels import ascent, evenness
from service.registration.kernels import descent as kernels
from service.registration.kernels.planes import MARGIN

SHAPE = (20, 24, 18)
WINDOW = (1.0, 1.0, 1.0)
STEP_MM = 0.6
ONES = np.ones(3, np.float32)
UPHILL = ONES, tap_weights(np.full(3, 1.2)), np.ones(3), ONES, STEP_MM
KEEP = tap_weights(np.full(3, 0.4)), 0.7 * ONES


class Pair:
    """Two random images as planes, and what a step needs of them."""

    def __init__(self, rng: np.random.Generator) -> None:
        ni, self.nk = SHAPE[0], SHAPE[2]
        planes = (ni, SHAPE[1] * SHAPE[2])
        self.moving = rng.normal(size=SHAPE).astype(np.float32)
        fixed = self.moving.reshape(planes) + rng.normal(size=planes).astype(np.float32)
        inside = np.zeros(SHAPE, np.float32)
        inside[(slice(MARGIN, -MARGIN),) * 3] = 1
        mask = inside.reshape(planes)
        self.images = fixed, fixed * mask, mask, np.zeros_like(fixed)
        self.stats, first, second = (np.zeros((3, *planes), np.float32) for _ in range(3))
        self.buffers = first, second
        kernels.fixed_statistics(fixed, mask, self.nk, WINDOW, self.stats, first)
        self.field = rng.normal(0, 0.3, (3, *planes)).astype(np.float32)

    def in_two_launches(self, field: np.ndarray) -> np.ndarray:
        """Moves the field; gives the similarity by plane."""
        totals, place = np.zeros(SHAPE[0], np.float32), (self.nk, (0, 0, 0), WINDOW)
        pair = self.moving, field
        ascent.compare(pair, place, self.images, self.stats, self.buffers, totals)
        ascent.ascend(field, self.nk, self.images, self.buffers, UPHILL, KEEP)
        return totals

    def one_by_one(self, field: np.ndarray) -> np.ndarray:
        """The same by the kernels themselves."""
        totals, largest = np.zeros(SHAPE[0], np.float32), np.empty(SHAPE[0], np.float32)
        (fixed, masked, mask, warped), (first, second), nk = self.images, self.buffers, self.nk
        window, taps, scale, spacing, step_mm = UPHILL
        place, masked_fixed = (nk, (0, 0, 0), WINDOW), (masked, mask)
        kernels.warp_and_sum(self.moving, field, place, masked_fixed, warped, first)
        kernels.correlation(first, self.stats, nk, WINDOW, second, totals)
        kernels.force((fixed, mask, warped), second, nk, (window, taps, scale), first)
        kernels.smooth_force(first, taps, spacing, second, largest)
        share = np.float32(step_mm / np.sqrt(largest.max()))
        kernels.compose_planes(field, second, share, nk, KEEP[0], first)
        kernels.smooth_field(first, KEEP[0], field)
        evenness.growth(field, nk, warped)
        evenness.even_out(warped, KEEP[1], nk, field)
        return totals


@pytest.fixture
def pair(rng: np.random.Generator) -> Pair:
    return Pair(rng)


def test_two_launches_give_what_eight_do_to_the_bit(pair: Pair) -> None:
    together, apart = pair.field.copy(), pair.field.copy()
    assert np.array_equal(pair.in_two_launches(together), pair.one_by_one(apart))
    assert np.array_equal(together, apart)
    assert np.abs(together - pair.field).max() > 0.1


def test_without_a_force_a_field_stays_as_it_is(pair: Pair) -> None:
    for image in pair.images:
        image[:] = 0
    moved = pair.field.copy()
    assert not pair.in_two_launches(moved).any()
    assert np.array_equal(moved, pair.field)
