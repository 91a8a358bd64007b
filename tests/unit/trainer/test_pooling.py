"""Rectifying and pooling in one pass, beside torch's two, forwards and backwards."""

import pytest

torch = pytest.importorskip("torch")
from torch.nn import functional as F  # noqa: E402, N812

from trainer.networks.pooling import leaky_pool  # noqa: E402

SIZES = [(6, 8, 10), (8, 6), (2, 2, 2), (5, 6, 8)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("slope", [0.2, 0.0])
def test_it_is_torchs_in_two_steps(size, keep, slope):
    torch.manual_seed(0)
    values = torch.randn(2, 3, *size).round(decimals=1).requires_grad_()  # ties occur
    pool = F.max_pool3d if len(size) == 3 else F.max_pool2d
    rectified = F.leaky_relu(values, slope)
    expected = pool(rectified, 2)
    kept, pooled = leaky_pool(values, slope, keep=keep)
    assert torch.equal(pooled, expected)
    weights = torch.randn_like(pooled), torch.randn_like(values)
    ours, theirs = (pooled * weights[0]).sum(), (expected * weights[0]).sum()
    if keep:
        assert torch.equal(kept, rectified)
        ours, theirs = ours + (kept * weights[1]).sum(), theirs + (rectified * weights[1]).sum()
    slopes = [torch.autograd.grad(value, values)[0] for value in (ours, theirs)]
    if slope > 0:  # else ties among rectified voxels, which torch breaks after rectifying
        torch.testing.assert_close(*slopes)
    assert (kept is not None) is keep


def test_a_value_that_is_no_number_is_not_hidden():
    for place in range(8):
        values = torch.zeros(1, 1, 2, 2, 2)
        values.view(-1)[place] = float("nan")
        assert torch.isnan(leaky_pool(values, 0.2)[1]).all()


def test_only_one_result_may_be_used():
    values = torch.randn(1, 2, 4, 4, 4, requires_grad=True)
    kept, _ = leaky_pool(values, 0.2)
    (slope,) = torch.autograd.grad(kept.sum(), values)
    torch.testing.assert_close(slope, torch.where(values > 0, 1.0, 0.2))
