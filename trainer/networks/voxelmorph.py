"""VoxelMorph's U-Net, stopped at the resolution of its output."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name

from trainer.config.networks import VoxelMorphBackbone, VoxelMorphConfig
from trainer.networks.blocks import convolution, is_too_thin
from trainer.networks.dense import Body, DenseNetwork
from trainer.networks.pooling import leaky_pool


class LeakyConv(nn.Module):
    """Convolution and leaky ReLU."""

    def __init__(self, ndim: int, inputs: int, outputs: int, slope: float) -> None:
        super().__init__()
        self.conv = convolution(ndim, inputs, outputs)
        self.slope = slope

    def forward(self, values: Tensor) -> Tensor:
        return F.leaky_relu(self.conv(values), self.slope, inplace=True)


class PooledConv(LeakyConv):
    """The same, halved afterwards; what is not halved is kept only where a skip takes it."""

    def __init__(self, ndim: int, inputs: int, outputs: int, slope: float, *, keep: bool) -> None:
        super().__init__(ndim, inputs, outputs, slope)
        self.keep = keep

    def forward(self, values: Tensor) -> tuple[Tensor | None, Tensor]:  # type: ignore[override]
        return leaky_pool(self.conv(values), self.slope, keep=self.keep)


class GrownConv(nn.Module):
    """Nearest doubling of what comes from below, joined with the skip; convolution, leaky ReLU.

    On the CPU the doubled tensor is never made: a convolution of 3 voxels on it is a transposed
    one of 4 on the tensor below, with 8 products a voxel in place of 27 in 3-D. That takes two
    thirds of the time. Exported graphs keep the plain way, which inference engines do better.
    """

    spread: Tensor

    def __init__(self, ndim: int, below: int, skip: int, outputs: int, slope: float) -> None:
        super().__init__()
        self.conv = convolution(ndim, below + skip, outputs)
        self.parts, self.slope = [below, skip], slope
        self.register_buffer("spread", spreading(ndim), persistent=False)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        is_eager = below.device.type == "cpu" and not torch.compiler.is_compiling()
        if is_eager and not is_too_thin(skip, 3):
            values = self._without_doubling(below, skip)
        else:
            grown = F.interpolate(below, scale_factor=2, mode="nearest")
            values = self.conv(torch.cat([grown, skip], dim=1))
        return F.leaky_relu(values, self.slope, inplace=True)

    def _without_doubling(self, below: Tensor, skip: Tensor) -> Tensor:
        weight: Tensor = self.conv.weight  # type: ignore[assignment]
        bias: Tensor = self.conv.bias  # type: ignore[assignment]
        above, beside = weight.split(self.parts, dim=1)  # type: ignore[no-untyped-call]
        convolve = F.conv3d if below.ndim == 5 else F.conv2d
        rest = convolve(skip, beside, bias, padding=1)
        return grown_convolution(below, above, self.spread).add_(rest)


def spreading(ndim: int) -> Tensor:
    """How a kernel of 3 voxels becomes one of 4 for a transposed convolution: (3**d, 4**d).

    Along an axis its weights, turned round, count for two voxels each: a, b, c gives
    c, c + b, b + a, a.
    """
    line = torch.tensor([[0.0, 0, 1, 1], [0, 1, 1, 0], [1, 1, 0, 0]])
    matrix = torch.ones(1, 1)
    for _ in range(ndim):
        matrix = torch.kron(matrix, line)
    return matrix


def grown_convolution(values: Tensor, weight: Tensor, spread: Tensor) -> Tensor:
    """The convolution by `weight`, (o, c, 3, ...), of nearest-doubled values (b, c, *s)."""
    ndim = values.ndim - 2
    kernel = (weight.flatten(2) @ spread).reshape(*weight.shape[:2], *(4,) * ndim)
    transposed = F.conv_transpose3d if ndim == 3 else F.conv_transpose2d
    return transposed(values, kernel.transpose(0, 1), None, stride=2, padding=1)


class VoxelMorphBody(Body):
    """One convolution a level down; up, one and nearest doubling, joined with the skip; the rest.

    At level 0 the skip is the first convolution's result. A body that stops at a deeper level
    leaves out the doublings above it, as VoxelMorph's `half_res` does for one.

    Source: Balakrishnan et al., VoxelMorph: A Learning Framework for Deformable Medical Image
    Registration, IEEE TMI 2019, figure 3; channels of its later code.
    """

    def __init__(self, config: VoxelMorphBackbone, inputs: int, ndim: int, finest: int) -> None:
        super().__init__()
        self.depth, self.finest = config.depth, finest
        down = (inputs, *config.encoder)
        self.encoder = nn.ModuleList(
            PooledConv(ndim, a, b, config.slope, keep=level >= finest)
            for level, (a, b) in enumerate(pairwise(down))
        )
        ways = config.decoder
        self.bottom = LeakyConv(ndim, config.encoder[-1], ways[0], config.slope)
        self.decoder, width = nn.ModuleList(), ways[0]
        for level in reversed(range(finest, config.depth)):
            skip, channels = config.encoder[level], ways[config.depth - level]
            self.decoder.append(GrownConv(ndim, width, skip, channels, config.slope))
            width = channels
        self.rest = nn.Sequential()
        for channels in ways[config.depth + (finest == 0) :]:
            self.rest.append(LeakyConv(ndim, width, channels, config.slope))
            width = channels
        self.taps = ((finest, width),)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features of the finest level."""
        values, skips = images, []
        for step in self.encoder:
            kept, values = step(values)
            skips.append(kept)
        values = self.bottom(values)
        for step in self.decoder:
            values = step(values, skips.pop())
        return [self.rest(values)]


class VoxelMorph(DenseNetwork):
    """The network of a configuration."""

    def __init__(
        self, config: VoxelMorphConfig, ndim: int = 3, channels: tuple[int, int] = (1, 1)
    ) -> None:
        finest = config.output.finest_level(config.depth)
        super().__init__(VoxelMorphBody(config, sum(channels), ndim, finest), config.output, ndim)
