"""Convolutions of the networks that match, in two or three dimensions."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from trainer.networks.blocks import CONVOLUTIONS, InstanceNorm
from trainer.spatial import warp

SLOPE = 0.2  # of the leaky rectifier below zero


def convolution(
    ndim: int, channels: tuple[int, int], *, kernel: int = 3, dilation: int = 1
) -> nn.Module:
    """A convolution that keeps the size; zeros beyond the border."""
    padding = dilation * (kernel // 2)
    return CONVOLUTIONS[ndim](*channels, kernel, padding=padding, dilation=dilation)


def halving(ndim: int, channels: tuple[int, int]) -> nn.Module:
    """A convolution over four voxels along each axis that halves the size; zeros beyond the border.

    Cell c sees voxels 2 c - 1 ... 2 c + 2, whose middle is that of its own two. A kernel of three
    is centred at 2 c: each halving then puts features, and with them the field, half a voxel of
    the finer grid higher than what they were seen at.
    """
    return CONVOLUTIONS[ndim](*channels, 4, stride=2, padding=1)


def block(ndim: int, channels: tuple[int, int], *, dilation: int = 1) -> nn.Module:
    """A 3**d convolution, instance normalisation, a leaky rectifier."""
    return _normed(convolution(ndim, channels, dilation=dilation), channels[1])


def halving_block(ndim: int, channels: tuple[int, int]) -> nn.Module:
    """The same to half the size, by a convolution of 4**d."""
    return _normed(halving(ndim, channels), channels[1])


def _normed(layer: nn.Module, channels: int) -> nn.Module:
    return nn.Sequential(layer, InstanceNorm(channels), nn.LeakyReLU(SLOPE))


def blocks(ndim: int, channels: Sequence[int]) -> nn.Sequential:
    """Blocks from channels to channels."""
    return nn.Sequential(*(block(ndim, pair) for pair in pairwise(channels)))


def small_output(ndim: int, channels: tuple[int, int], *, kernel: int, std: float) -> nn.Module:
    """A convolution drawn from N(0, std), without bias at the start."""
    layer = convolution(ndim, channels, kernel=kernel)
    nn.init.normal_(layer.weight, std=std)  # type: ignore[arg-type]
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


class Streams(nn.Module):
    """The first layers of both images; one set of weights where both have the same channels."""

    def __init__(self, fixed: nn.Module, moving: nn.Module | None) -> None:
        super().__init__()
        self.fixed = fixed
        self.own = moving

    def forward(self, fixed: Tensor, moving: Tensor) -> tuple[Tensor, Tensor]:
        """Features of both."""
        other = self.fixed if self.own is None else self.own
        return self.fixed(fixed), other(moving)


def pull(values: Tensor, u: Tensor) -> Tensor:
    """values(x + u(x)), linear; beyond the border the edge goes on, so that no edge is made up.

    Args:
        values: (b, c, *s).
        u: (b, d, *s), in cells of s.
    """
    return warp(values, u, fill=None)


def chain(outer: Tensor, inner: Tensor) -> Tensor:
    """First `inner`, then `outer`: inner(x) + outer(x + inner(x)), its edge going on."""
    return inner + pull(outer, inner)
