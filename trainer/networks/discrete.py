"""Discrete registration without training: MIND-SSC, a search window, coupled-convex smoothing."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainer.networks.axes import Matrices, along_axes, box, doubling, halving
from trainer.networks.correlation import Tiling, band, matching_cost, window
from trainer.networks.mind import mind_ssc
from trainer.spatial import compose, pull

# How firmly each cell is held to its neighbours, iteration by iteration.
# Source: Siebert, Hansen and Heinrich, ConvexAdam, 2021; Heinrich et al., Non-parametric Discrete
# Registration with Convex Optimisation, WBIR 2014.
COUPLINGS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


@dataclass(frozen=True)
class DiscreteConfig:
    """Choices of the network; lengths are in voxels of the model grid."""

    coarse_radius: int = 3  # cells of 4 voxels: up to 12 voxels of motion
    fine_radius: int = 2  # cells of 2 voxels: 4 voxels more
    sharpness: float = 10.0  # of the soft minimum over displacements
    couplings: tuple[float, ...] = COUPLINGS
    symmetric: int = 4  # rounds that bring forward and backward search together
    final_smoothings: int = 1


class Search(nn.Module):
    """The displacement of each cell within a window, smooth over the grid.

    Alternates between the best displacement for each cell alone, held to its neighbourhood's mean
    by a growing coupling, and that mean. The best one is a soft minimum: displacements weighted by
    exp(-sharpness * energy), so that it varies between whole cells and does not jump on ties.

    Source: Heinrich et al., Non-parametric Discrete Registration with Convex Optimisation, 2014.
    """

    steps: Tensor
    index: Tensor

    def __init__(self, radius: int, config: DiscreteConfig) -> None:
        super().__init__()
        self.radius = radius
        self.config = config
        self.register_buffer("steps", window(radius), persistent=False)
        self.register_buffer("index", band(radius), persistent=False)

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """(c, i, j, k) features of both to the displacement (3, i, j, k), in cells."""
        i, j, k = fixed.shape[1:]
        tiling = Tiling((i, j, k))
        smoother = (box(i, fixed), box(j, fixed), box(k, fixed))
        score = -matching_cost(fixed, moving, tiling, self.radius, self.index)
        score = score * self.config.sharpness
        field = self._mean(score, tiling, smoother)
        for coupling in self.config.couplings:
            pull_back = self._held(tiling.cut(field), coupling * self.config.sharpness)
            field = self._mean(score + pull_back, tiling, smoother)
        return field

    def _held(self, tiles: Tensor, weight: float) -> Tensor:
        """-weight * |d - field|**2 for each displacement d, less what does not depend on d."""
        rows = tiles.flatten(2).transpose(1, 2).reshape(-1, 3)
        constant = -weight * (self.steps**2).sum(dim=1)
        return torch.addmm(constant, rows, 2 * weight * self.steps.T)

    def _mean(self, score: Tensor, tiling: Tiling, smoother: Matrices) -> Tensor:
        best = torch.softmax(score, dim=1) @ self.steps
        return along_axes(tiling.join(best), smoother)


class Discrete(nn.Module):
    """Two searches: cells of four voxels, then of two on the features warped so far."""

    def __init__(self, config: DiscreteConfig | None = None) -> None:
        super().__init__()
        self.config = config or DiscreteConfig()
        self.coarse = Search(self.config.coarse_radius, self.config)
        self.fine = Search(self.config.fine_radius, self.config)

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Both images (1, 1, i, j, k), sizes multiples of 4, to (1, 3, i / 2, j / 2, k / 2).

        The result is u in voxels of the images, for cells of 2**3 voxels, with
        moving(x + u(x)) like fixed(x).
        """
        here, there = mind_ssc(fixed[0, 0]), mind_ssc(moving[0, 0])
        i, j, k = here.shape[1:]
        pool = (halving(i, here), halving(j, here), halving(k, here))
        coarse = self._both_ways(self.coarse, along_axes(here, pool), along_axes(there, pool))
        grow = (doubling(i, here), doubling(j, here), doubling(k, here))
        field = 2 * along_axes(coarse, grow)
        rest = self._both_ways(self.fine, here, pull(there, field))
        field = compose(field, rest)
        smoother = (box(i, here), box(j, here), box(k, here))
        for _ in range(self.config.final_smoothings):
            field = along_axes(field, smoother)
        in_voxels: Tensor = 2 * field[None]
        return in_voxels

    def _both_ways(self, search: Search, fixed: Tensor, moving: Tensor) -> Tensor:
        """The field of a search, made consistent with that of the search from moving to fixed."""
        forward: Tensor = search(fixed, moving)
        if not self.config.symmetric:
            return forward
        backward = search(moving, fixed)
        for _ in range(self.config.symmetric):
            forward, backward = (
                (forward - pull(backward, forward)) / 2,
                (backward - pull(forward, backward)) / 2,
            )
        return forward
