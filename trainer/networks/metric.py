"""The discrete model's search with a learned metric: descriptors of three sizes, weighed together.

Descriptors are MIND-SSC of the image, of its halves and of its quarters, and of the cells around a
cell. A matrix for each search makes features of them, so that their squared distance is a learned
(Mahalanobis) one. `trainer.metric_fit` finds the matrices in one pass over synthetic pairs; they
can be trained further through the search. No convolution runs at all.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name

from trainer.config.matching_networks import MatchingPyramidConfig, MetricConfig
from trainer.networks.axes import along_axes, box, hat, ramp
from trainer.networks.discrete import Discrete, DiscreteConfig
from trainer.networks.mind import CHANNELS, mind_ssc
from trainer.networks.pull import compose, pull

# Cells from a cell to those around it that are described with it.
REACH = 2
AROUND = tuple(
    tuple(step if axis == n else 0 for n in range(3))
    for axis in range(3)
    for step in (REACH, -REACH)
)
FINE, COARSE = 8 * CHANNELS, 9 * CHANNELS
# Of the weights that begin as next to nothing.
SMALL = 1e-3


def descriptors(image: Tensor) -> tuple[Tensor, Tensor]:
    """What cells of two and of four voxels are described by.

    Args:
        image: (i, j, k), multiples of 8.

    Returns:
        (96, i / 2, ...): MIND-SSC, its mean over three cells at the six places around, that of the
        halved image; (108, i / 4, ...): the same of four voxels, and that of the quartered image.
        MIND-SSC itself comes first in both.
    """
    halves = _halved(image[None])
    quarters = _halved(halves)
    own, of_halves, of_quarters = mind_ssc(image), mind_ssc(halves[0]), mind_ssc(quarters[0])
    fine = torch.cat([own, _around(own), _grown(of_halves, own)])
    own = _halved(own)
    coarse = torch.cat([own, of_halves, _around(own), _grown(of_quarters, own)])
    return fine, coarse


def _around(cells: Tensor) -> Tensor:
    i, j, k = cells.shape[1:]
    padded = F.pad(_smoothed(cells)[None], (REACH,) * 6, mode="replicate")[0]
    views = [
        padded[:, REACH + a : REACH + a + i, REACH + b : REACH + b + j, REACH + c : REACH + c + k]
        for a, b, c in AROUND
    ]
    return torch.cat(views)


def _smoothed(values: Tensor) -> Tensor:
    i, j, k = values.shape[1:]
    return along_axes(values, (box(i, values), box(j, values), box(k, values)))


def _halved(values: Tensor) -> Tensor:
    """The mean of each 2**3; sizes are even."""
    c, i, j, k = values.shape
    return values.reshape(c, i // 2, 2, j // 2, 2, k // 2, 2).mean(dim=(2, 4, 6))


def _grown(cells: Tensor, like: Tensor) -> Tensor:
    """Linear, by position, from cells of twice the size to those of `like`."""
    first, second, third = (
        hat((ramp(fine, cells) - 0.5) / 2, coarse)
        for fine, coarse in zip(like.shape[1:], cells.shape[1:], strict=True)
    )
    return along_axes(cells, (first, second, third))


class FittedSearch(nn.Module):
    """The discrete model's search, and the matrices of its fine and its coarse features."""

    # How the graph is exported: sizes that follow from sizes take the newer exporter minutes.
    is_traced = True

    def __init__(
        self,
        config: MetricConfig | MatchingPyramidConfig,
        searched: DiscreteConfig,
        ndim: int,
        channels: tuple[int, int],
    ) -> None:
        super().__init__()
        if ndim != 3 or channels != (1, 1):
            raise ValueError("the search takes images of three axes and one channel")
        self.config = config
        self.stride, self.multiple = config.output.stride, config.multiple
        self.search = Discrete(searched)
        self.fine = nn.Parameter(plain_metric(config.features[0], FINE))
        self.coarse = nn.Parameter(plain_metric(config.features[1], COARSE))

    def put(self, fine: Tensor, coarse: Tensor) -> None:
        """Take the matrices of a fitted metric."""
        with torch.no_grad():
            self.fine.copy_(fine)
            self.coarse.copy_(coarse)


class MetricSearch(FittedSearch):
    """Both searches of the discrete model, each on features of its own."""

    def __init__(
        self, config: MetricConfig, ndim: int = 3, channels: tuple[int, int] = (1, 1)
    ) -> None:
        searched = DiscreteConfig(config.coarse_radius, config.fine_radius)
        super().__init__(config, searched, ndim, channels)

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Both images (b, 1, *s), multiples of 8, to u (b, 3, *s / 2), in voxels."""
        return torch.stack([self._one(fixed[n, 0], moving[n, 0]) for n in range(fixed.shape[0])])

    def _one(self, fixed: Tensor, moving: Tensor) -> Tensor:
        (here, here_coarse), (there, there_coarse) = self._features(fixed), self._features(moving)
        field = 2 * _grown(self.search.both_ways(here_coarse, there_coarse), here)
        rest: Tensor = self.search.fine(here, pull(there, field))
        return 2 * _smoothed(compose(field, rest))

    def _features(self, image: Tensor) -> tuple[Tensor, Tensor]:
        fine, coarse = descriptors(image)
        return torch.tensordot(self.fine, fine, 1), torch.tensordot(self.coarse, coarse, 1)


def plain_metric(features: int, described: int) -> Tensor:
    """MIND-SSC alone, as the discrete model compares it, and next to nothing of the rest."""
    weights = SMALL * torch.randn(features, described)
    weights[:, :CHANNELS] += torch.eye(features, CHANNELS)
    return weights
