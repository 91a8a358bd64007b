"""Normalisation, against numpy's own words and cases worked by hand."""

import numpy as np

from service.registration.card import Intensity
from service.registration.intensity import normalise


def _values(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(100, 30, (20, 18, 16)).astype(np.float32)


def test_percentiles_map_to_zero_and_one(rng: np.random.Generator) -> None:
    values = _values(rng)
    scaled = normalise(values, Intensity(rule="percentiles", low=5, high=95, clip=False))
    np.testing.assert_allclose(np.percentile(scaled, [5, 95]), [0, 1], atol=1e-5)


def test_clipping_keeps_to_the_range_and_touches_no_value_inside(rng: np.random.Generator) -> None:
    values = _values(rng)
    rule = Intensity(rule="percentiles", low=5, high=95, clip=False)
    free = normalise(values, rule)
    held = normalise(values, rule.model_copy(update={"clip": True}))
    np.testing.assert_array_equal(held, np.clip(free, 0, 1))


def test_a_window_is_the_same_for_every_image() -> None:
    values = np.array([[[-1000, -500, 0, 400]]], np.float32)
    scaled = normalise(values, Intensity(rule="window", low=-1000, high=0))
    np.testing.assert_allclose(scaled, [[[0, 0.5, 1, 1]]], atol=1e-6)


def test_a_constant_image_becomes_zero_without_a_warning() -> None:
    values = np.full((4, 4, 4), 7, np.float32)
    assert not normalise(values, Intensity(rule="percentiles", low=0.5, high=99.5)).any()


def test_a_small_bright_object_in_an_empty_image_is_kept() -> None:
    values = np.zeros((40, 40, 40), np.float32)
    values[20, 20, 20:24] = 9
    scaled = normalise(values, Intensity(rule="percentiles", low=0.5, high=99.5))
    assert scaled[20, 20, 20] == 1
    assert scaled.sum() == 4


def test_none_leaves_the_values_as_they_are(rng: np.random.Generator) -> None:
    values = _values(rng)
    assert normalise(values, Intensity(rule="none")) is values
