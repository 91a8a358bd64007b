"""Costs of displacements against loops over cells and displacements."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from trainer.networks.cost_volume import (  # noqa: E402
    displacements,
    products,
    squared_differences,
    squared_differences_at,
)


def _features(*size: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    return tuple(rng.random((2, 3, *size)).astype(np.float32) for _ in range(2))


def _by_hand(fixed: np.ndarray, moving: np.ndarray, radius: int, how: str) -> np.ndarray:
    size = fixed.shape[2:]
    steps = list(itertools.product(range(-radius, radius + 1), repeat=len(size)))
    out = np.zeros((fixed.shape[0], len(steps), *size))
    for b, cell in itertools.product(range(fixed.shape[0]), np.ndindex(*size)):
        for n, step in enumerate(steps):
            there = tuple(np.clip(np.add(cell, step), 0, np.array(size) - 1))
            one, other = fixed[(b, slice(None), *cell)], moving[(b, slice(None), *there)]
            pair = one * other if how == "dot" else (one - other) ** 2 / len(one)
            out[(b, n, *cell)] = pair.sum()
    return out


@pytest.mark.parametrize("size", [(5, 4, 3), (2, 2, 2), (1, 3, 4), (6, 5), (1, 1)])
@pytest.mark.parametrize("radius", [1, 2])
def test_every_cell_is_compared_with_every_displacement(size, radius):
    fixed, moving = _features(*size)
    pair = torch.from_numpy(fixed), torch.from_numpy(moving)
    np.testing.assert_allclose(
        products(*pair, radius), _by_hand(fixed, moving, radius, "dot"), atol=1e-5
    )
    np.testing.assert_allclose(
        squared_differences(*pair, radius), _by_hand(fixed, moving, radius, "ssd"), atol=1e-5
    )


@pytest.mark.parametrize("size", [(6, 4, 8), (6, 9)])
def test_chosen_points_have_the_costs_of_the_dense_volume(size):
    fixed, moving = (torch.from_numpy(values) for values in _features(*size))
    points = [torch.arange(n // 2) * 2 + 1 for n in size]
    sparse = squared_differences_at(fixed, moving, points, torch.tensor([-2, 0, 2]))
    dense = _by_hand(fixed.numpy(), moving.numpy(), 2, "ssd")
    even = [n for n, step in enumerate(displacements(2, len(size))) if not (step % 2).any()]
    wanted = dense[:, even][(..., *(slice(1, 2 * (n // 2), 2) for n in size))]
    np.testing.assert_allclose(sparse, wanted, atol=1e-5)


def test_gradients_are_those_of_the_formula():
    fixed, moving = (torch.from_numpy(v).double().requires_grad_() for v in _features(3, 2))
    assert torch.autograd.gradcheck(lambda f, m: squared_differences(f, m, 1), (fixed, moving))
