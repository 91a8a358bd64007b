"""Interpolation and smoothing by matrices against torch and scipy."""

import numpy as np
import pytest
from scipy import ndimage

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402, N812 - the usual name

from trainer.networks.spread import along_each, expand, triangle  # noqa: E402


@pytest.mark.parametrize(("size", "mode"), [((3, 4, 5), "trilinear"), ((4, 7), "bilinear")])
def test_cells_are_expanded_as_torch_does(size, mode):
    field = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    expected = F.interpolate(field, scale_factor=4, mode=mode, align_corners=False)
    found = expand(field, expected.shape[2:], 4)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_cells_at_an_offset_lie_where_they_say():
    line = torch.tensor([[[2.0, 5.0, 8.0]]])  # at 1, 4, 7: the values are the positions + 1
    found = expand(line, [9], 3, 1)
    assert found.flatten().tolist() == pytest.approx([2, 2, 3, 4, 5, 6, 7, 8, 8])


@pytest.mark.parametrize("size", [(6, 5, 7), (9, 4), (1, 2)])
def test_the_mean_of_three_twice_is_scipys_with_the_edge_going_on(size):
    values = np.random.default_rng(0).random(size).astype(np.float32)
    padded = np.pad(values, 2, mode="edge")
    twice = ndimage.uniform_filter(ndimage.uniform_filter(padded, 3), 3)
    inner = twice[tuple(slice(2, -2) for _ in size)]
    tensor = torch.from_numpy(values)[None, None]
    found = along_each(tensor, [triangle(n, tensor) for n in size])[0, 0]
    np.testing.assert_allclose(found, inner, atol=1e-6)
