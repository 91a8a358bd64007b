"""bfloat16 on the CPU: the gradients of thin images are right to its precision."""

import pytest
import torch

from trainer.config.networks import VoxelMorphConfig
from trainer.networks.blocks import convolution, is_too_thin
from trainer.networks.build import build_network


def _gradient(layer, values, enabled):
    layer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
        output = layer(values)
    output.float().square().sum().backward()
    return layer.weight.grad.clone()


@pytest.mark.parametrize(
    ("kernel", "size"), [(3, (2, 4, 4)), (3, (2, 3, 2)), (5, (3, 4, 4)), (7, (5, 6, 5))]
)
def test_the_weight_gradient_of_a_thin_image_is_that_of_float32(kernel, size):
    torch.manual_seed(0)
    for _ in range(20):  # torch's own fails now and then: it reads memory that nobody wrote
        layer = convolution(3, 16, 32, kernel)
        values = torch.randn(1, 16, *size)
        exact = _gradient(layer, values, enabled=False)
        mixed = _gradient(layer, values, enabled=True)
        assert (mixed - exact).abs().max() < 0.02 * exact.abs().max()


def test_thick_images_keep_their_half_precision():
    layer = convolution(3, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(1, 4, 3, 4, 4)).dtype == torch.bfloat16
        assert layer(torch.randn(1, 4, 2, 4, 4)).dtype == torch.float32
        assert not is_too_thin(torch.randn(1, 4, 2, 4), 3)


def test_a_network_of_thin_levels_has_finite_gradients():
    torch.manual_seed(1)
    network = build_network(VoxelMorphConfig(encoder=(8, 16, 16, 16), decoder=(16,) * 5))
    for _ in range(10):
        with torch.autocast("cpu", torch.bfloat16):
            output = network(torch.rand(1, 1, 32, 48, 32), torch.rand(1, 1, 32, 48, 32))
        (output.float() - 1).square().sum().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in network.parameters())
