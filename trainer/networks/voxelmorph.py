"""VoxelMorph's U-Net, stopped at the resolution of its output."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name

from trainer.config.networks import VoxelMorphBackbone, VoxelMorphConfig
from trainer.networks.blocks import convolution
from trainer.networks.dense import Body, DenseNetwork


class LeakyConv(nn.Module):
    """Convolution and leaky ReLU."""

    def __init__(self, ndim: int, inputs: int, outputs: int, slope: float) -> None:
        super().__init__()
        self.conv = convolution(ndim, inputs, outputs)
        self.slope = slope

    def forward(self, values: Tensor) -> Tensor:
        return F.leaky_relu(self.conv(values), self.slope, inplace=True)


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
        self.encoder = nn.ModuleList(LeakyConv(ndim, a, b, config.slope) for a, b in pairwise(down))
        ways = config.decoder[: config.depth - max(finest, 1) + 1]
        self.decoder, width = nn.ModuleList(), config.encoder[-1]
        for n, channels in enumerate(ways):
            self.decoder.append(LeakyConv(ndim, width, channels, config.slope))
            level = config.depth - n - 1  # where the next doubling leads
            width = channels + (config.encoder[level] if level >= finest else 0)
        self.rest = nn.Sequential()
        for channels in config.decoder[config.depth :]:
            self.rest.append(LeakyConv(ndim, width, channels, config.slope))
            width = channels
        self.taps = ((finest, width),)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features of the finest level."""
        pool = F.max_pool3d if images.ndim == 5 else F.max_pool2d
        values, skips = images, []
        for step in self.encoder:
            skips.append(step(values))
            values = pool(skips[-1], 2)
        for n, step in enumerate(self.decoder):
            values, level = step(values), self.depth - n - 1
            if level >= self.finest:
                values = F.interpolate(values, scale_factor=2, mode="nearest")
                values = torch.cat([values, skips[level]], dim=1)
        return [self.rest(values)]


class VoxelMorph(DenseNetwork):
    """The network of a configuration."""

    def __init__(
        self, config: VoxelMorphConfig, ndim: int = 3, channels: tuple[int, int] = (1, 1)
    ) -> None:
        finest = config.output.finest_level(config.depth)
        super().__init__(VoxelMorphBody(config, sum(channels), ndim, finest), config.output, ndim)
