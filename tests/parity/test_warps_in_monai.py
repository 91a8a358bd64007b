"""Warping and integration are MONAI's, where the sample stays inside the image.

MONAI lets an image fade to zero over the voxel beyond its border (`zeros`) or goes on with its
edge (`border`); ITK and we do the second for half a voxel, and then it is over.
"""

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812

from trainer import spatial  # noqa: E402

# MONAI says so whenever its own extension was not compiled.
pytestmark = pytest.mark.filterwarnings("ignore:.*Using PyTorch native grid_sample")
SHAPES = pytest.mark.parametrize("shape", [(12, 18, 9), (20, 13)], ids=["3-D", "2-D"])


def warp_block() -> Any:
    """Imported when it is asked for: that takes seconds, and all processes collect this file."""
    return pytest.importorskip("monai.networks.blocks.warp")


def _field(shape: tuple[int, ...], size: float) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    coarse = size * torch.randn(2, len(shape), *[4] * len(shape), generator=generator)
    mode = "trilinear" if len(shape) == 3 else "bilinear"
    return F.interpolate(coarse, size=shape, mode=mode, align_corners=True)


def _inside(u: Tensor) -> Tensor:
    """Where samples are inside and no border is near; also for rounding."""
    shape = u.shape[2:]
    index = torch.from_numpy(np.indices(shape)) + u
    last = torch.tensor(shape).reshape(1, -1, *[1] * len(shape)) - 1
    return ((index > 0) & (index < last)).all(dim=1, keepdim=True)


@SHAPES
def test_warp_with_gradients(shape: tuple[int, ...]) -> None:
    values = torch.rand(2, 2, *shape, generator=torch.Generator().manual_seed(5))
    u = _field(shape, 3)
    inside = _inside(u)
    assert inside.float().mean() > 0.3
    results = []
    for warp in (spatial.warp, warp_block().Warp(mode="bilinear", padding_mode="zeros")):
        leaves = values.clone().requires_grad_(), u.clone().requires_grad_()
        warped = warp(*leaves) * inside
        results.append((warped, *torch.autograd.grad(warped.square().sum(), leaves)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


@SHAPES
def test_warp_and_integration_in_single_precision_are_those_in_double(
    shape: tuple[int, ...],
) -> None:
    """Double precision goes through torch's `grid_sample`, single through our kernels."""
    values = torch.rand(2, 2, *shape, generator=torch.Generator().manual_seed(5))
    u = _field(shape, 3)
    inside = _inside(u)
    exact = spatial.warp(values.double(), u.double()).float()
    torch.testing.assert_close(spatial.warp(values, u) * inside, exact * inside, atol=1e-5, rtol=0)
    velocity = _field(shape, 1)
    moved = spatial.integrate(velocity.double()).float()
    torch.testing.assert_close(spatial.integrate(velocity), moved, atol=1e-5, rtol=1e-5)


@SHAPES
def test_integration(shape: tuple[int, ...]) -> None:
    # Still at the border, so that nothing leaves the image.
    taper = torch.ones(1, 1, *shape)
    for axis, count in enumerate(shape):
        line = torch.sin(torch.arange(count) * torch.pi / (count - 1)).clamp(min=0)
        taper = taper * line.reshape(-1, *[1] * (len(shape) - 1 - axis))
    velocity = taper * _field(shape, 2)
    theirs = warp_block().DVF2DDF(num_steps=7)(velocity)
    assert theirs.abs().max() > 1
    torch.testing.assert_close(spatial.integrate(velocity), theirs, atol=1e-5, rtol=1e-4)
