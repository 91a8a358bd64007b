"""The matching cost of every cell with every displacement in a window, as one matrix product.

`cost_volume` has the same of batches, in cells' order; a search goes on in the tiles' order.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.networks.cost_volume import TILE, displacements, wanted


@dataclass(frozen=True)
class Tiling:
    """How a coarse grid is cut into tiles; the last ones repeat the border cells."""

    shape: tuple[int, int, int]

    @property
    def counts(self) -> tuple[int, int, int]:
        i, j, k = ((n + TILE - 1) // TILE for n in self.shape)
        return i, j, k

    def cut(self, cells: Tensor, margin: int = 0) -> Tensor:
        """(c, i, j, k) to (tiles, w**3, c), w = TILE + 2 margin; clamped at the border.

        One gather of whole rows: channels are brought to the end first.
        """
        width = TILE + 2 * margin
        places = torch.zeros((1,) * 6, dtype=torch.int64, device=cells.device)
        for axis, (size, count) in enumerate(zip(self.shape, self.counts, strict=True)):
            starts = torch.arange(count, device=cells.device) * TILE - margin
            place = (starts[:, None] + torch.arange(width, device=cells.device)).clamp(0, size - 1)
            spread = [1] * 6
            spread[axis], spread[axis + 3] = count, width
            places = places * size + place.reshape(spread)
        rows = cells.flatten(1).T
        return rows.index_select(0, places.reshape(-1)).reshape(-1, width**3, cells.shape[0])

    def join(self, rows: Tensor) -> Tensor:
        """(tiles * TILE**3, c) back to (c, i, j, k)."""
        i, j, k = self.counts
        cells = rows.reshape(i, j, k, TILE, TILE, TILE, -1).permute(6, 0, 3, 1, 4, 2, 5)
        cells = cells.reshape(-1, i * TILE, j * TILE, k * TILE)
        return cells[:, : self.shape[0], : self.shape[1], : self.shape[2]]


def window(radius: int) -> Tensor:
    """All whole displacements of up to `radius` cells along each axis, (count, 3)."""
    return displacements(radius, 3)


def band(radius: int) -> Tensor:
    """Where the displacements of each cell of a tile stand in (TILE**3, (TILE + 2 radius)**3)."""
    return wanted(radius, 3)


def matching_score(
    fixed: Tensor, moving: Tensor, tiling: Tiling, radius: int, index: Tensor
) -> Tensor:
    """score(x, d) = -|moving(x + d) - fixed(x)|**2 + |fixed(x)|**2, summed over channels.

    The second term, the same for every displacement of a cell, makes this one matrix product:
    [2 fixed, -1] . [moving, |moving|**2].

    Args:
        fixed: (c, i, j, k) features of the cells.
        moving: Likewise; beyond the border its edge cells are repeated.
        tiling: Of the cells' grid.
        radius: Largest displacement along each axis, in cells.
        index: `band(radius)`.

    Returns:
        (cells in tile order, displacements in the order of `window(radius)`).
    """
    left = torch.cat([2 * fixed, -torch.ones_like(fixed[:1])])
    right = torch.cat([moving, (moving * moving).sum(dim=0, keepdim=True)])
    products = torch.bmm(tiling.cut(left), tiling.cut(right, radius).transpose(1, 2)).flatten(1)
    return products.index_select(1, index).reshape(-1, (2 * radius + 1) ** 3)
