"""The matching cost of every cell with every displacement in a window, as one matrix product."""

from dataclasses import dataclass

import torch
from torch import Tensor

# Cells along each axis of a tile. A tile of 4**3 cells is matched with its surroundings by one
# matrix product, of which the wanted displacements are then gathered: no loop over them, and
# no unfolded copy of the features a displacement.
TILE = 4


@dataclass(frozen=True)
class Tiling:
    """How a coarse grid is cut into tiles; the last ones repeat the border cells."""

    shape: tuple[int, int, int]

    @property
    def counts(self) -> tuple[int, int, int]:
        i, j, k = ((n + TILE - 1) // TILE for n in self.shape)
        return i, j, k

    def cut(self, cells: Tensor, margin: int = 0) -> Tensor:
        """(c, i, j, k) to (tiles, c, w, w, w), w = TILE + 2 margin; clamped at the border."""
        width = TILE + 2 * margin
        for axis, (size, count) in enumerate(zip(self.shape, self.counts, strict=True)):
            starts = torch.arange(count, device=cells.device) * TILE - margin
            index = starts[:, None] + torch.arange(width, device=cells.device)[None, :]
            cells = cells.index_select(axis + 1, index.reshape(-1).clamp(0, size - 1))
        i, j, k = self.counts
        tiles = cells.reshape(-1, i, width, j, width, k, width)
        tiles = tiles.permute(1, 3, 5, 0, 2, 4, 6)
        return tiles.reshape(i * j * k, -1, width, width, width)

    def join(self, rows: Tensor) -> Tensor:
        """(tiles * TILE**3, c) back to (c, i, j, k)."""
        i, j, k = self.counts
        cells = rows.reshape(i, j, k, TILE, TILE, TILE, -1).permute(6, 0, 3, 1, 4, 2, 5)
        cells = cells.reshape(-1, i * TILE, j * TILE, k * TILE)
        return cells[:, : self.shape[0], : self.shape[1], : self.shape[2]]


def window(radius: int) -> Tensor:
    """All whole displacements of up to `radius` cells along each axis, (count, 3)."""
    steps = torch.arange(-radius, radius + 1, dtype=torch.float32)
    return torch.cartesian_prod(steps, steps, steps)


def band(radius: int) -> Tensor:
    """Where the displacements of each cell of a tile stand in (TILE**3, (TILE + 2 radius)**3)."""
    width = TILE + 2 * radius
    cell = torch.cartesian_prod(*[torch.arange(TILE)] * 3)
    step = torch.cartesian_prod(*[torch.arange(2 * radius + 1)] * 3)
    there = cell[:, None, :] + step[None, :, :]
    flat = (there[..., 0] * width + there[..., 1]) * width + there[..., 2]
    return (torch.arange(TILE**3)[:, None] * width**3 + flat).reshape(-1)


def matching_cost(
    fixed: Tensor, moving: Tensor, tiling: Tiling, radius: int, index: Tensor
) -> Tensor:
    """cost(x, d) = |moving(x + d) - fixed(x)|**2 summed over channels.

    Args:
        fixed: (c, i, j, k) features of the cells.
        moving: Likewise; beyond the border its edge cells are repeated.
        tiling: Of the cells' grid.
        radius: Largest displacement along each axis, in cells.
        index: `band(radius)`.

    Returns:
        (cells in tile order, displacements in the order of `window(radius)`), float32.
    """
    here = tiling.cut(fixed).flatten(2)
    there = tiling.cut(moving, radius).flatten(2)
    # |m - f|**2 = |f|**2 + [-2 f, 1] . [m, |m|**2]
    ones = torch.ones_like(here[:, :1])
    left = torch.cat([-2 * here, ones], dim=1).transpose(1, 2)
    right = torch.cat([there, (there * there).sum(dim=1, keepdim=True)], dim=1)
    products = torch.bmm(left, right).flatten(1)
    chosen = products.index_select(1, index).reshape(here.shape[0] * TILE**3, -1)
    own = (here * here).sum(dim=1).reshape(-1, 1)
    return chosen + own
