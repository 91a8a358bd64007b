"""DeepReg's U-Net and LocalNet: a residual encoder and decoder, fields from several levels."""

from typing import cast

import torch
from torch import Tensor, nn

from trainer.config.networks import DeepRegUNetConfig, LocalNetConfig, UNetBackbone
from trainer.networks.blocks import (
    ConvBlock,
    Doubling,
    HalvingConv,
    Level,
    ResidualBlock,
    max_pooling,
)
from trainer.networks.dense import Body, DenseNetwork


class UNetBody(Body):
    """Convolution and residual block at each level, down and up; skips added or joined.

    The decoder stops at the finest level that is asked for. Levels are told by their number, 0
    for the image's resolution: DeepReg looks them up from the wrong end, so that it extracts
    levels 3, 2 and 0 where 0, 1 and 3 were asked for.

    label-reg's skips leave after a level's first convolution, and what is added on the way up is
    seen by the next level only: relu(f(grown) + grown + skip), f two convolutions.

    Source: Fu et al., DeepReg: a deep learning toolkit for medical image registration, JOSS 2020;
    Hu et al., Weakly-supervised convolutional neural networks for multimodal image registration,
    Medical Image Analysis 2018 (label-reg).
    """

    def __init__(self, config: UNetBackbone, inputs: int, ndim: int, finest: int) -> None:
        super().__init__()
        self.depth, self.finest, self.concat = config.depth, finest, config.concat_skip
        self.skips_early = config.skips == "label-reg"
        down, up = config.widths()
        levels = config.extracted(finest)
        self.stop = min(levels)
        self.taps = tuple((level, (*up, down[-1])[level]) for level in levels)
        self.encoder, self.halvings = _encoder(config, inputs, ndim)
        self.bottom = nn.Sequential(ConvBlock(ndim, down[-2], down[-1], config.norm))
        if config.residual_bottom:
            self.bottom = Level(ndim, down[-2], down[-1], config.norm)
        self.doublings, self.decoder = nn.ModuleList(), nn.ModuleList()
        width = down[-1]
        for level in reversed(range(self.stop, config.depth)):
            here, skip = up[level], down[level] if config.concat_skip else 0
            additive = config.additive_upsampling
            self.doublings.append(Doubling(ndim, width, here, config.norm, additive=additive))
            self.decoder.append(
                ResidualBlock(ndim, here, config.norm)
                if self.skips_early
                else Level(ndim, here + skip, here, config.norm)
            )
            width = here

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features of the extracted levels, in the order in which they were asked for."""
        values, skips = images, []
        for step, halving in zip(self.encoder, self.halvings, strict=True):
            first, whole = cast(Level, step).first_and_whole(values)
            skips.append(first if self.skips_early else whole)
            values = halving(whole)
        found = {self.depth: self.bottom(values)}
        for n, (doubling, step) in enumerate(zip(self.doublings, self.decoder, strict=True)):
            level = self.depth - n - 1
            grown, skip = doubling(found[level + 1]), skips[level]
            found[level] = self._decoded(step, grown, skip)
        return [found[level] for level, _ in self.taps]

    def _decoded(self, step: nn.Module, grown: Tensor, skip: Tensor) -> Tensor:
        if self.skips_early:
            late: Tensor = step(grown, skip)
            return late
        found: Tensor = step(torch.cat([grown, skip], dim=1) if self.concat else grown + skip)
        return found


def _encoder(config: UNetBackbone, inputs: int, ndim: int) -> tuple[nn.ModuleList, nn.ModuleList]:
    """Blocks of levels 0 to depth - 1, and what halves after each."""
    down, _ = config.widths()
    blocks, halvings = nn.ModuleList(), nn.ModuleList()
    for level in range(config.depth):
        first = config.first_kernel if level == 0 else 3
        kernels = (first, first if config.first_kernel_residual else 3)
        before = down[level - 1] if level else inputs
        blocks.append(Level(ndim, before, down[level], config.norm, kernels))
        halvings.append(
            max_pooling(ndim) if config.pooling else HalvingConv(ndim, down[level], config.norm)
        )
    return blocks, halvings


class UNet(DenseNetwork):
    """DeepReg's `unet` or `local`; what tells them apart is in the configuration."""

    def __init__(
        self,
        config: DeepRegUNetConfig | LocalNetConfig,
        ndim: int = 3,
        channels: tuple[int, int] = (1, 1),
    ) -> None:
        finest = config.output.finest_level(config.depth)
        body = UNetBody(config, sum(channels), ndim, finest)
        super().__init__(body, config.output, ndim, config.combine)
