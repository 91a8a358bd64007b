"""Probabilistic dense displacements on a control grid, after PDD-Net."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from trainer.config.matching_networks import PddConfig
from trainer.networks.cost_volume import displacements, squared_differences_at
from trainer.networks.features import (
    SLOPE,
    Streams,
    block,
    chain,
    halving,
    halving_block,
    pull,
    small_output,
)
from trainer.networks.learned_correlation import FEATURE_STD
from trainer.networks.mean_field import MeanField
from trainer.networks.spread import expand


class WideFeatures(nn.Module):
    """Strided convolutions, then dilated ones that see far, each added to what it was given.

    They stand in for the sparse sampling of OBELISK: wide context from few weights.
    """

    def __init__(self, config: PddConfig, ndim: int, channels: int) -> None:
        super().__init__()
        last = config.channels[-1]
        self.down = nn.Sequential(
            halving(ndim, (channels, config.channels[0])),
            nn.LeakyReLU(SLOPE),
            *(halving_block(ndim, pair) for pair in pairwise(config.channels)),
        )
        self.wide = nn.ModuleList(
            block(ndim, (last, last), dilation=dilation) for dilation in config.dilations
        )
        self.out = small_output(ndim, (last, config.features), kernel=1, std=FEATURE_STD)

    def forward(self, image: Tensor) -> Tensor:
        """(b, c, *s) to (b, features, *s / feature_stride)."""
        features = self.down(image)
        for layer in self.wide:
            features = features + layer(features)
        result: Tensor = torch.sigmoid(self.out(features))
        return result


class Pdd(nn.Module):
    """Costs of every displacement of every control point, in agreement, and their expectation.

    Source: Heinrich, Closing the Gap between Deep and Conventional Image Registration using
    Probabilistic Dense Displacement Networks, MICCAI 2019.
    """

    # How the graph is exported: sizes that follow from sizes take the newer exporter minutes.
    is_traced = True

    def __init__(
        self, config: PddConfig, ndim: int = 3, channels: tuple[int, int] = (1, 1)
    ) -> None:
        super().__init__()
        self.config = config
        self.stride: int = config.output.stride
        self.multiple: int = max(config.control_stride, self.stride)
        own = WideFeatures(config, ndim, channels[1]) if channels[0] != channels[1] else None
        self.features = Streams(WideFeatures(config, ndim, channels[0]), own)
        steps = config.displacement_step // config.feature_stride
        self.reaches = [steps, max(steps // 2, 1)][: config.warps]
        window = displacements(config.radius, ndim)
        self.searches = nn.ModuleList(
            MeanField(
                config.feature_stride * reach * window,
                config.iterations,
                trainable=config.trainable_weights,
            )
            for reach in self.reaches
        )

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Both images (b, c, *s) to the displacement or velocity (b, d, *s / stride), in voxels."""
        here, there = self.features(fixed, moving)
        coarse = self.searches[0](self._cost(here, there, self.reaches[0]))
        if self.config.warps == 2:
            field = self._spread(coarse, here.shape[2:], self.config.feature_stride)
            near = pull(there, field / self.config.feature_stride)
            rest = self.searches[1](self._cost(here, near, self.reaches[1]))
            coarse = self._chained(coarse, rest)
        size = [n // self.stride for n in fixed.shape[2:]]
        return self._spread(coarse, size, self.stride)

    def _chained(self, coarse: Tensor, rest: Tensor) -> Tensor:
        voxels = self.config.control_stride
        return voxels * chain(coarse / voxels, rest / voxels)

    def _spread(self, coarse: Tensor, size: list[int], stride: int) -> Tensor:
        """From control points to cells of `stride` voxels.

        A control point is a feature's cell: the middle one of its control cell, or of the two
        that are, the first.
        """
        cell, spacing = self.config.feature_stride, self.config.control_stride
        position = self._middle() * cell + (cell - 1) / 2  # in voxels
        offset = (position - (stride - 1) / 2) / stride
        return expand(coarse, size, spacing / stride, offset)

    def _middle(self) -> int:
        return (self.config.control_stride // self.config.feature_stride - 1) // 2

    def _cost(self, here: Tensor, there: Tensor, reach: int) -> Tensor:
        """Mean squared difference, (b, displacements, *control points)."""
        spacing, radius = (
            self.config.control_stride // self.config.feature_stride,
            self.config.radius,
        )
        points = [
            torch.arange(n // spacing, device=here.device) * spacing + self._middle()
            for n in here.shape[2:]
        ]
        steps = torch.arange(-radius, radius + 1, device=here.device) * reach
        return squared_differences_at(here, there, points, steps)
