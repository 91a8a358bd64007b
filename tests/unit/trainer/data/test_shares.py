"""A share from the part of a map where its label is, against the service's whole-volume way."""

from collections.abc import Callable

import numpy as np
import pytest

from service.registration.fields import Affine
from service.registration.grid import Grid
from service.registration.model_grid import on_grid, through
from service.registration.volume import Volume
from trainer.data.reading import Labels, bounds
from trainer.data.shares import share_of_map

SPACINGS = [(0.7, 1.3, 2.5), (2.0, 2.0, 2.0), (0.6, 0.6, 0.6)]


def random_map(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """Blocks of labels 1 to 5, some at the border, one of a single voxel; no label 3."""
    data = np.zeros(shape, np.uint8)
    data[:4, :5, :6] = 1
    data[6:12, 3:9, 4:8] = rng.integers(0, 2, (6, 6, 4)) * 2
    data[-3:, -4:, -2:] = 4
    data[9, 14, 9] = 5
    return data


@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_a_fixed_share_is_the_services(
    make_grid: Callable[..., Grid],
    rng: np.random.Generator,
    orientation: str,
    spacing_mm: tuple[float, float, float],
) -> None:
    native = make_grid(orientation, (18, 20, 14), (0.7, 1.3, 2.5))
    labels = Labels.of(random_map(rng, native.shape), native)
    grid = native.resampled(spacing_mm)
    turned = make_grid("oblique", grid.shape, spacing_mm)
    for target in (grid, turned):
        for label in (1, 2, 4, 9):
            indicator = Volume((labels.data == label).astype(np.float32), native)
            expected = on_grid(indicator, target).as_float32().data
            found = share_of_map(labels, label, target, None)
            np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_a_moving_share_is_the_services(
    make_grid: Callable[..., Grid],
    rng: np.random.Generator,
    orientation: str,
    spacing_mm: tuple[float, float, float],
) -> None:
    native = make_grid(orientation, (18, 20, 14), (0.9, 1.1, 1.6))
    labels = Labels.of(random_map(rng, native.shape), native)
    grid = make_grid("LPS", (24, 20, 22), spacing_mm)
    matrix = np.eye(4)
    matrix[:3, :3] += rng.normal(size=(3, 3)) / 10
    matrix[:3, 3] = native.centre_mm - matrix[:3, :3] @ grid.centre_mm
    affine = Affine(matrix)
    for label in (2, 3, 4, 5):
        indicator = Volume((labels.data == label).astype(np.float32), native)
        expected = through(indicator, grid, affine, fill=0.0).data
        np.testing.assert_allclose(share_of_map(labels, label, grid, affine), expected, atol=2e-5)


def test_bounds_are_first_and_last_of_each_label(rng: np.random.Generator) -> None:
    data = random_map(rng, (18, 20, 14))
    first, last = bounds(data)
    for label in (0, 1, 2, 4, 5):
        places = np.argwhere(data == label)
        np.testing.assert_array_equal(first[label], places.min(axis=0))
        np.testing.assert_array_equal(last[label], places.max(axis=0))
    assert (last[3] < first[3]).all()
    labels = Labels.of(data, Grid(data.shape, np.eye(4)))
    assert labels.values() == (1, 2, 4, 5)
