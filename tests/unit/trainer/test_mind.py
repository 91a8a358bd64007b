"""MIND-SSC against loops written from the paper's definition."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from trainer.networks.mind import CHANNELS, EDGES, mind_ssc  # noqa: E402


def _by_hand(image: np.ndarray) -> np.ndarray:
    """Voxel by voxel: a mean of 3**3 voxels at each of the 8 voxels of a cell."""
    shape = image.shape

    def value(*place: int) -> float:
        clamped = tuple(min(max(p, 0), n - 1) for p, n in zip(place, shape, strict=True))
        return float(image[clamped])

    cells = tuple(n // 2 for n in shape)
    distances = np.zeros((CHANNELS, *cells))
    offsets = list(itertools.product((-1, 0, 1), repeat=3))
    for channel, (a, b) in enumerate(EDGES):
        for cell in np.ndindex(*cells):
            total = 0.0
            for inside in itertools.product((0, 1), repeat=3):
                for patch in offsets:
                    x = [2 * c + s + p for c, s, p in zip(cell, inside, patch, strict=True)]
                    one = value(*(q + 2 * s for q, s in zip(x, a, strict=True)))
                    other = value(*(q + 2 * s for q, s in zip(x, b, strict=True)))
                    total += (one - other) ** 2
            distances[channel][cell] = total / (8 * 27)
    spread = distances - distances.min(axis=0)
    noise = spread.mean(axis=0)
    noise = np.clip(noise, noise.mean() * 1e-3, noise.mean() * 1e3)
    return np.exp(-spread / noise)


@pytest.mark.parametrize("shape", [(4, 6, 8), (8, 4, 2)])
def test_the_descriptor_is_the_papers(shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(3).random(shape).astype(np.float32)
    ours = mind_ssc(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(ours, _by_hand(image), atol=2e-5)


def test_there_are_twelve_pairs_that_touch_but_do_not_face_each_other() -> None:
    assert len({frozenset(edge) for edge in EDGES}) == 12
    assert all(np.dot(a, b) == 0 for a, b in EDGES)


def test_contrast_does_not_matter_in_sign_or_scale() -> None:
    image = torch.rand(8, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(mind_ssc(5 - 3 * image), mind_ssc(image), atol=1e-4, rtol=0)


def test_a_constant_image_has_the_same_descriptor_everywhere() -> None:
    assert torch.equal(mind_ssc(torch.full((4, 4, 4), 0.3)), torch.ones(12, 2, 2, 2))
