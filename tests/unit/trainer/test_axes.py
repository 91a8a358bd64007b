"""Filters as matrices, against scipy."""

import numpy as np
import pytest
from scipy import ndimage

torch = pytest.importorskip("torch")

from trainer.networks.axes import along_axes, box, doubling, halving  # noqa: E402

VALUES = np.random.default_rng(5).random((2, 6, 7, 9)).astype(np.float32)


def _apply(make: object, values: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    tensor = torch.from_numpy(values)
    return along_axes(tensor, tuple(make(n, tensor) for n in sizes)).numpy()  # type: ignore[operator]


def test_the_box_is_scipys_with_the_edge_repeated() -> None:
    expected = [ndimage.uniform_filter(channel, 3, mode="nearest") for channel in VALUES]
    np.testing.assert_allclose(_apply(box, VALUES, (6, 7, 9)), expected, atol=1e-6)


def test_halving_is_the_mean_of_two_and_two() -> None:
    even = VALUES[:, :, :6, :8]
    expected = even.reshape(2, 3, 2, 3, 2, 4, 2).mean(axis=(2, 4, 6))
    np.testing.assert_allclose(_apply(halving, even, (6, 6, 8)), expected, atol=1e-6)


def test_a_last_voxel_that_is_alone_stands_for_itself() -> None:
    one = np.arange(5, dtype=np.float32).reshape(1, 5, 1, 1)
    np.testing.assert_allclose(_apply(halving, one, (5, 1, 1)).ravel(), [0.5, 2.5, 4.0])


def test_doubling_interpolates_by_the_position_of_the_centres() -> None:
    cells = VALUES[:1, :4, :3, :5]
    fine = [(np.arange(2 * n) - 0.5) / 2 for n in cells.shape[1:]]
    places = np.meshgrid(*fine, indexing="ij")
    expected = ndimage.map_coordinates(cells[0], places, order=1, mode="nearest")
    np.testing.assert_allclose(_apply(doubling, cells, (8, 6, 10))[0], expected, atol=1e-6)
