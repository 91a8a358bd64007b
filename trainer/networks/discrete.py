"""Discrete registration without training: MIND-SSC, a search window, coupled-convex smoothing."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainer.networks.axes import Matrices, along_axes, box, doubling, halving
from trainer.networks.correlation import Tiling, band, matching_score, window
from trainer.networks.mind import mind_ssc
from trainer.networks.pull import compose, pull

# How firmly each cell is held to its neighbours, iteration by iteration: every second one of the
# published 0.003, 0.01, 0.03, 0.1, 0.3, 1, which changes no Dice by more than 0.003.
# Source: Heinrich et al., Non-parametric Discrete Registration with Convex Optimisation, WBIR 2014.
COUPLINGS = (0.01, 0.1, 1.0)


@dataclass(frozen=True)
class DiscreteConfig:
    """Choices of the network; radii are in cells, which have 4 or 2 voxels of the model grid."""

    coarse_radius: int = 3  # cells of 4 voxels: up to 12 voxels of motion
    fine_radius: int = 1  # cells of 2 voxels: 2 voxels more
    sharpness: float = 10.0  # of the soft minimum over displacements
    couplings: tuple[float, ...] = COUPLINGS
    symmetric_rounds: int = 4  # that bring the coarse search and its reverse together


class Search(nn.Module):
    """The displacement of each cell within a window, smooth over the grid.

    Alternates between the best displacement for each cell alone, held to its neighbourhood's mean
    by a growing coupling, and that mean. The best one is a soft one: displacements weighted by
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
        # Features scaled by the root of the sharpness have their squared distance scaled by it.
        scale = self.config.sharpness**0.5
        score = matching_score(scale * fixed, scale * moving, tiling, self.radius, self.index)
        field = self._mean(score, tiling, smoother)
        for coupling in self.config.couplings:
            field = self._mean(self._held(score, tiling.cut(field), coupling), tiling, smoother)
        return field

    def _held(self, score: Tensor, tiles: Tensor, coupling: float) -> Tensor:
        """score - weight * |d - field|**2, less what does not depend on d, as one product."""
        weight = coupling * self.config.sharpness
        rows = tiles.reshape(-1, 3)
        rows = torch.cat([rows, torch.ones_like(rows[:, :1])], dim=1)
        square = (self.steps**2).sum(dim=1, keepdim=True)
        return torch.addmm(score, rows, weight * torch.cat([2 * self.steps, -square], dim=1).T)

    def _mean(self, score: Tensor, tiling: Tiling, smoother: Matrices) -> Tensor:
        best = torch.softmax(score, dim=1) @ self.steps
        return along_axes(tiling.join(best), smoother)


class Discrete(nn.Module):
    """Two searches: cells of four voxels, both ways; then of two, on features warped so far."""

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
        coarse = self.both_ways(along_axes(here, pool), along_axes(there, pool))
        grow = (doubling(i, here), doubling(j, here), doubling(k, here))
        field = 2 * along_axes(coarse, grow)
        rest: Tensor = self.fine(here, pull(there, field))
        smoother = (box(i, here), box(j, here), box(k, here))
        return 2 * along_axes(compose(field, rest), smoother)[None]

    def both_ways(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """The coarse field, made consistent with that of the search from moving to fixed."""
        forward: Tensor = self.coarse(fixed, moving)
        backward: Tensor = self.coarse(moving, fixed)
        for _ in range(self.config.symmetric_rounds):
            forward, backward = (
                (forward - pull(backward, forward)) / 2,
                (backward - pull(forward, backward)) / 2,
            )
        return forward
