"""A search, then a pyramid that learns which of its choices to trust.

The first field is that of the search on given descriptors (MIND-SSC of three sizes, weighed
together, as in `trainer.networks.metric`), so it matches before it has learned anything and in any
contrast. Then, on cells of 4 and of 2 voxels, features are warped and compared once more, and
convolutions say how far each cell's choice is to be followed and how much the cell is to be trusted
among its neighbours, which a search does by a fixed rule. They cannot add motion of their own:
with a free residual the network learned more of synthetic shapes and made it up in real images.
No convolution runs at more than half resolution.
"""

from itertools import pairwise
from math import log

import torch
from torch import Tensor, nn

from trainer.config.matching_networks import MatchingPyramidConfig
from trainer.networks.axes import box
from trainer.networks.blocks import CONVOLUTIONS
from trainer.networks.correlation import Tiling, band, matching_score, window
from trainer.networks.discrete import DiscreteConfig
from trainer.networks.features import SLOPE
from trainer.networks.metric import FittedSearch, descriptors
from trainer.networks.pull import pull
from trainer.networks.spread import along_each, expand

# Of the soft choice among displacements at the start; the search of the discrete model has it too.
SHARPNESS = 10.0
# Confidences stay within exp(+-CONFIDENCE) of each other, so that no cell is left without a say.
CONFIDENCE = 4.0
# Besides costs and features a level sees: its choice, its lowest cost, how the field so far bends.
MORE = 7


class Level(nn.Module):
    """The field of one level: choices within a window, scaled, and made to agree."""

    steps: Tensor
    index: Tensor

    def __init__(self, features: int, radius: int, width: int) -> None:
        super().__init__()
        self.radius = radius
        self.register_buffer("steps", window(radius), persistent=False)
        self.register_buffer("index", band(radius), persistent=False)
        self.log_sharpness = nn.Parameter(torch.tensor(log(SHARPNESS)))
        layers: list[nn.Module] = []
        for before, after in pairwise((len(self.steps) + features + MORE, width, width)):
            layers += [CONVOLUTIONS[3](before, after, 3, padding=1), nn.LeakyReLU(SLOPE)]
        self.layers = nn.Sequential(*layers)
        self.out = CONVOLUTIONS[3](width, 4, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, fixed: Tensor, moving: Tensor, so_far: Tensor) -> Tensor:
        """Features (b, c, *s) of both and a field (b, 3, *s) to a better one, in cells."""
        scores = self._scores(fixed, _pulled(moving, so_far.detach()))
        chances = torch.softmax(self.log_sharpness.exp() * scores, dim=1)
        chosen = torch.einsum("bnijk,nd->bdijk", chances, self.steps)
        best = scores.amax(dim=1, keepdim=True)
        bent = so_far - _weighted(so_far, torch.ones_like(best))
        seen = torch.cat([chances, chosen / self.radius, best, bent, fixed], dim=1)
        found = self.out(self.layers(seen))
        trust = torch.exp(CONFIDENCE * torch.tanh(found[:, 3:] / CONFIDENCE))
        better = chosen * (1 + torch.tanh(found[:, :3]))
        return _weighted(better + _pulled(so_far, better), trust)

    def _scores(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """-|fixed(x) - moving(x + d)|**2 for each d of the window, (b, displacements, *s)."""
        i, j, k = fixed.shape[2:]
        tiling = Tiling((i, j, k))
        every = []
        for here, there in zip(fixed.unbind(), moving.unbind(), strict=True):
            rows = matching_score(here, there, tiling, self.radius, self.index)
            every.append(tiling.join(rows) - here.square().sum(dim=0, keepdim=True))
        return torch.stack(every)


def _pulled(values: Tensor, field: Tensor) -> Tensor:
    """values(x + u(x)) of each pair, by torch alone: the exporter traces it."""
    return torch.stack([pull(v, u) for v, u in zip(values.unbind(), field.unbind(), strict=True)])


def _weighted(values: Tensor, trust: Tensor) -> Tensor:
    """The mean of three neighbours along each axis, each cell as much as it is trusted."""
    smoothers = [box(n, values) for n in values.shape[2:]]
    joined = along_each(torch.cat([values * trust, trust], dim=1), smoothers)
    return joined[:, :3] / joined[:, 3:]


class MatchingPyramid(FittedSearch):
    """A search on cells of 4 voxels, both ways; then a learned level at 4 and one at 2 voxels."""

    def __init__(
        self, config: MatchingPyramidConfig, ndim: int = 3, channels: tuple[int, int] = (1, 1)
    ) -> None:
        super().__init__(config, DiscreteConfig(config.search_radius), ndim, channels)
        sizes = zip(config.features, config.radii, config.widths, strict=True)
        self.levels = nn.ModuleList(Level(*size) for size in sizes)

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Both images (b, 1, *s), multiples of 8, to u (b, 3, *s / 2), in voxels."""
        (here, here_coarse), (there, there_coarse) = self.described(fixed), self.described(moving)
        field: Tensor = self.levels[1](
            here_coarse, there_coarse, self._searched(here_coarse, there_coarse)
        )
        field = self.levels[0](here, there, 2 * expand(field, here.shape[2:], 2))
        return 2 * field

    def described(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features on cells of 2 and 4 voxels, (b, c, *s / 2), (b, c, *s / 4), of one image."""
        both = [descriptors(images[n, 0]) for n in range(images.shape[0])]
        fine, coarse = (torch.stack(parts) for parts in zip(*both, strict=True))
        return (
            torch.einsum("fc,bcijk->bfijk", self.fine, fine),
            torch.einsum("fc,bcijk->bfijk", self.coarse, coarse),
        )

    @torch.no_grad()
    def _searched(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Of each pair; nothing is learned through the search, whose metric was fitted."""
        pairs = zip(fixed.unbind(), moving.unbind(), strict=True)
        return torch.stack([self.search.both_ways(here, there) for here, there in pairs])
