"""A pyramid of features of both images, matched from coarse to fine."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from trainer.config.matching_networks import PyramidConfig
from trainer.networks.cost_volume import products
from trainer.networks.features import (
    Streams,
    block,
    blocks,
    chain,
    convolution,
    halving_block,
    pull,
    small_output,
)
from trainer.networks.spread import expand
from trainer.spatial import integrate

OUTPUT_STD = 1e-5
# Squarings of one level's residual, which is small, and of the field so far.
RESIDUAL_STEPS = 4


class Encoder(nn.Module):
    """Features at strides 2, 4, 8, ...; the first convolution already halves the grid.

    At stride 2 there are few: they are what is dear to compute, and to warp.
    """

    def __init__(self, config: PyramidConfig, ndim: int, channels: int) -> None:
        super().__init__()
        first, *rest = config.channels
        self.first = halving_block(ndim, (channels, first))
        self.levels = nn.ModuleList(
            nn.Sequential(halving_block(ndim, (finer, coarser)), block(ndim, (coarser, coarser)))
            for finer, coarser in pairwise((first, *rest))
        )
        self.finest = (
            convolution(ndim, (first, config.finest_channels)) if config.output.stride < 4 else None
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """(b, c, *s) to the features of the levels that are matched, from fine to coarse."""
        image = self.first(image)
        features = [] if self.finest is None else [self.finest(image)]
        for level in self.levels:
            image = level(image)
            features.append(image)
        return features


class Estimator(nn.Module):
    """What is still missing at one level, from both features and their local correlation."""

    def __init__(
        self, ndim: int, features: int, layers: tuple[int, ...], radius: int | None
    ) -> None:
        super().__init__()
        self.radius = radius
        seen = 2 * features + (0 if radius is None else (2 * radius + 1) ** ndim)
        self.layers = blocks(ndim, (seen, *layers))
        self.out = small_output(ndim, (layers[-1], ndim), kernel=3, std=OUTPUT_STD)

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """(b, c, *s) each, moving warped so far, to the residual (b, d, *s) in cells."""
        seen = [fixed, moving]
        if self.radius is not None:
            seen.append(products(_unit(fixed), _unit(moving), self.radius))
        residual: Tensor = self.out(self.layers(torch.cat(seen, dim=1)))
        return residual


def _unit(features: Tensor) -> Tensor:
    """Features of length one, so that their product is the cosine of their angle."""
    return features * torch.rsqrt(features.square().sum(dim=1, keepdim=True) + 1e-6)


class Pyramid(nn.Module):
    """Coarse to fine: warp the moving features by the field so far, compare, correct."""

    # How the graph is exported: sizes that follow from sizes take the newer exporter minutes.
    is_traced = True

    def __init__(
        self, config: PyramidConfig, ndim: int = 3, channels: tuple[int, int] = (1, 1)
    ) -> None:
        super().__init__()
        self.config = config
        self.stride: int = config.output.stride
        self.multiple: int = 2 ** len(config.channels)
        own = Encoder(config, ndim, channels[1]) if channels[0] != channels[1] else None
        self.encoder = Streams(Encoder(config, ndim, channels[0]), own)
        coarse = [
            Estimator(ndim, width, config.estimator, config.radius) for width in config.channels[1:]
        ]
        half = tuple((width + 1) // 2 for width in config.estimator)
        fine = [Estimator(ndim, config.finest_channels, half, None)] if self.stride < 4 else []
        self.estimators = nn.ModuleList(fine + coarse)

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Both images (b, c, *s) to the displacement or velocity (b, d, *s / stride), in voxels."""
        here, there = self.encoder(fixed, moving)
        field: Tensor = self._step(self.estimators[-1](here[-1], there[-1]))
        for level in reversed(range(len(here) - 1)):
            field = self._corrected(field, here[level], there[level], self.estimators[level])
        cell = max(self.stride, 2)
        return expand(cell * field, fixed.shape[2:], 2) if self.stride == 1 else cell * field

    def _corrected(self, field: Tensor, here: Tensor, there: Tensor, estimate: nn.Module) -> Tensor:
        """The field of this level, in its cells, from that of the coarser one."""
        size = here.shape[2:]
        so_far = 2 * expand(field, size, 2)
        if self.config.output.kind == "velocity":
            moved = 2 * expand(integrate(field, self.config.output.steps), size, 2)
            residual: Tensor = estimate(here, pull(there, moved))
            return so_far + residual
        return chain(so_far, self._step(estimate(here, pull(there, so_far))))

    def _step(self, residual: Tensor) -> Tensor:
        if self.config.output.kind == "displacement" and self.config.residual == "velocity":
            return integrate(residual, RESIDUAL_STEPS)
        return residual
