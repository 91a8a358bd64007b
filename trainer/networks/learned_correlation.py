"""Learned features, their costs over a window of displacements, and the soft minimum."""

from itertools import pairwise

from torch import Tensor, nn

from trainer.config.matching_networks import CorrelationConfig
from trainer.networks.cost_volume import displacements, products, squared_differences
from trainer.networks.features import SLOPE, Streams, block, halving, halving_block, small_output
from trainer.networks.mean_field import MeanField
from trainer.networks.spread import expand

# Standard deviation of the last feature layer's weights: costs start small.
FEATURE_STD = 0.02


class FeatureNetwork(nn.Module):
    """Strided convolutions to a coarse grid, then 1**d layers to values in (0, 1)."""

    def __init__(self, config: CorrelationConfig, ndim: int, channels: int) -> None:
        super().__init__()
        first, *rest = config.channels
        layers: list[nn.Module] = [
            halving(ndim, (channels, first)),
            nn.LeakyReLU(SLOPE),
            block(ndim, (first, first)),
        ]
        layers += [halving_block(ndim, pair) for pair in pairwise((first, *rest))]
        layers += [
            block(ndim, (config.channels[-1], config.channels[-1])),
            small_output(ndim, (config.channels[-1], config.features), kernel=1, std=FEATURE_STD),
            nn.Sigmoid(),
        ]
        self.layers = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        """(b, c, *s) to (b, features, *s / stride)."""
        features: Tensor = self.layers(image)
        return features


class Correlation(nn.Module):
    """The discrete network of the Learn2Reg 2019 tutorial, in two or three dimensions."""

    # How the graph is exported: sizes that follow from sizes take the newer exporter minutes.
    is_traced = True

    def __init__(
        self, config: CorrelationConfig, ndim: int = 3, channels: tuple[int, int] = (1, 1)
    ) -> None:
        super().__init__()
        self.config = config
        self.cell = 2 ** len(config.channels)
        self.stride: int = config.output.stride
        self.multiple: int = max(self.cell, self.stride)
        own = FeatureNetwork(config, ndim, channels[1]) if channels[0] != channels[1] else None
        self.features = Streams(FeatureNetwork(config, ndim, channels[0]), own)
        self.search = MeanField(
            self.cell * displacements(config.radius, ndim),
            config.iterations,
            trainable=config.trainable_weights,
        )

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Both images (b, c, *s) to the displacement or velocity (b, d, *s / stride), in voxels."""
        here, there = self.features(fixed, moving)
        if self.config.similarity == "ssd":
            cost = squared_differences(here, there, self.config.radius)
        else:
            cost = -products(here, there, self.config.radius) / here.shape[1]
        coarse = self.search(cost)
        size = [n // self.stride for n in fixed.shape[2:]]
        return expand(coarse, size, self.cell / self.stride)
