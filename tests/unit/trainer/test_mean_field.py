"""Min-convolution and mean-field against loops, torch's pooling and cases worked by hand."""

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402, N812 - the usual name

from trainer.networks.cost_volume import displacements  # noqa: E402
from trainer.networks.mean_field import MeanField, expectation, min_convolution  # noqa: E402


def _costs(ndim: int, width: int, *size: int) -> torch.Tensor:
    return torch.rand(2, width**ndim, *size, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize(("ndim", "width", "size"), [(2, 5, (3, 4)), (3, 3, (2, 3, 2))])
def test_min_convolution_is_pooling_of_each_cells_window(ndim, width, size):
    cost = _costs(ndim, width, *size)
    cells = cost.flatten(2).transpose(1, 2).reshape(-1, 1, *[width] * ndim)
    largest, mean = {
        2: (F.max_pool2d, F.avg_pool2d),
        3: (F.max_pool3d, F.avg_pool3d),
    }[ndim]
    padded = F.pad(cells, (3,) * (2 * ndim), mode="replicate")
    pooled = mean(mean(-largest(-padded, 3, 1), 3, 1), 3, 1)
    expected = pooled.reshape(2, -1, width**ndim).transpose(1, 2).reshape(cost.shape)
    torch.testing.assert_close(min_convolution(cost, width, ndim), expected, atol=1e-6, rtol=0)


def test_one_cheap_displacement_makes_a_basin_around_it():
    """Minimum 1 1 0 0 0 1 1 of 1 1 1 0 1 1 1, then weights 1 2 3 2 1 over nine."""
    cost = torch.tensor([1.0, 1, 1, 0, 1, 1, 1]).reshape(1, 7, 1)
    found = 9 * min_convolution(cost, 7, 1).flatten()
    assert found.tolist() == pytest.approx([8, 6, 3, 2, 3, 6, 8])


def test_the_edge_costs_go_on_before_the_minimum_is_taken():
    """0 0 0 | 0 1 1 | 1 1 1: minima 0 0 0 0 1 1 1 at -2 ... 4."""
    found = 9 * min_convolution(torch.tensor([0.0, 1, 1]).reshape(1, 3, 1), 3, 1).flatten()
    assert found.tolist() == pytest.approx([1, 3, 6])


def test_expectation_of_a_sharp_minimum_is_its_displacement():
    steps = 4 * displacements(1, 3)
    logits = torch.zeros(1, 27, 2, 1, 1)
    logits[0, 5, 0], logits[0, 22, 1] = 1e3, 1e3
    found = expectation(logits, steps)
    torch.testing.assert_close(found[0, :, 0, 0, 0], steps[5])
    torch.testing.assert_close(found[0, :, 1, 0, 0], steps[22])


@pytest.mark.parametrize("ndim", [2, 3])
def test_equal_costs_leave_everything_where_it_is(ndim):
    layer = MeanField(displacements(2, ndim), 2, trainable=True)
    found = layer(torch.full((1, 5**ndim, *[3] * ndim), 0.7))
    torch.testing.assert_close(found, torch.zeros_like(found), atol=1e-5, rtol=0)


def test_neighbours_outvote_a_cell_that_is_wrong():
    steps = displacements(2, 2)
    cost = torch.ones(1, 25, 5, 5)
    cost[0, 17] = 0  # displacement (1, 0) everywhere ...
    cost[0, 17, 2, 2], cost[0, 10, 2, 2] = 1, 0  # ... but in the middle, which wants (0, -2)
    alone = MeanField(steps, 0, trainable=False)(cost)
    agreed = MeanField(steps, 2, trainable=False)(cost)
    wanted = torch.tensor([1.0, 0.0])
    assert (agreed[0, :, 2, 2] - wanted).norm() < (alone[0, :, 2, 2] - wanted).norm() / 2


def test_fixed_weights_are_not_learned():
    assert not any(
        p.requires_grad for p in MeanField(displacements(1, 2), 3, trainable=False).parameters()
    )
