"""The discrete network samples where scipy samples."""

import numpy as np
import pytest
from scipy import ndimage

torch = pytest.importorskip("torch")

from trainer.networks.pull import compose, pull  # noqa: E402

SHAPE = (14, 18, 11)


def _smooth(rng: np.random.Generator, size: float) -> np.ndarray:
    noise = rng.normal(size=(3, *SHAPE))
    smooth = np.stack([ndimage.gaussian_filter(part, 2.5) for part in noise])
    return (size * smooth / np.abs(smooth).max()).astype(np.float32)


def test_pull_samples_where_scipy_samples(rng: np.random.Generator) -> None:
    values, field = rng.random(SHAPE).astype(np.float32), _smooth(rng, 6)
    places = np.indices(SHAPE) + field
    expected = ndimage.map_coordinates(values, places, order=1, mode="nearest")
    ours = pull(torch.from_numpy(values)[None], torch.from_numpy(field))[0]
    np.testing.assert_allclose(ours, expected, atol=2e-5)


def test_compose_goes_first_by_the_inner_field(rng: np.random.Generator) -> None:
    outer, inner = _smooth(rng, 2), _smooth(rng, 2)
    places = np.indices(SHAPE) + inner
    expected = inner + np.stack(
        [ndimage.map_coordinates(part, places, order=1, mode="nearest") for part in outer]
    )
    ours = compose(torch.from_numpy(outer), torch.from_numpy(inner)).numpy()
    np.testing.assert_allclose(ours, expected, atol=2e-5)
