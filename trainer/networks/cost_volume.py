"""Features of one image against displaced features of the other, in two or three dimensions.

A window of radius r holds (2 r + 1)**d displacements, in the order of `displacements`. Beyond the
border the edge features go on.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

# Cells along each axis of a tile. Its cells are matched with their surroundings by one matrix
# product, of which the wanted displacements are then gathered: no loop over them, no copy of the
# features for each of them, and a graph of the same size for every window.
TILE = 2


def displacements(radius: int, ndim: int) -> Tensor:
    """All whole displacements of up to `radius` along each axis, (count, d)."""
    return _lattice(torch.arange(-radius, radius + 1), ndim).to(torch.float32)


def products(fixed: Tensor, moving: Tensor, radius: int) -> Tensor:
    """fixed(x) . moving(x + d), the sum over channels.

    Args:
        fixed: (b, c, *s).
        moving: Likewise.
        radius: Largest displacement along each axis, in cells.

    Returns:
        (b, (2 radius + 1)**d, *s).
    """
    size, ndim = fixed.shape[2:], fixed.ndim - 2
    here, there = _cut(fixed, 0), _cut(moving, radius)
    scores = torch.matmul(here, there.transpose(2, 3)).flatten(2)
    scores = scores.index_select(2, wanted(radius, ndim).to(fixed.device))
    return _join(scores, size)


def squared_differences(fixed: Tensor, moving: Tensor, radius: int) -> Tensor:
    """|fixed(x) - moving(x + d)|**2, the mean over channels; shapes as in `products`.

    As one product of more channels: [-2 fixed, |fixed|**2, 1] . [moving, 1, |moving|**2].
    """
    left, right = _factors(fixed, moving)
    return products(left, right, radius) / fixed.shape[1]


def squared_differences_at(
    fixed: Tensor, moving: Tensor, points: Sequence[Tensor], steps: Tensor
) -> Tensor:
    """|fixed(p) - moving(p + d)|**2, the mean over channels, at some points only.

    Args:
        fixed: (b, c, *s).
        moving: Likewise.
        points: Indices along each axis; every combination is a point.
        steps: Displacements along any axis, in cells; every combination is tried.

    Returns:
        (b, len(steps)**d, *len of points).
    """
    ndim, size = len(points), fixed.shape[2:]
    left, right = _factors(fixed, moving)
    still = torch.zeros_like(steps[:1])
    here = _rows(left, _places(size, points, [still] * ndim))[..., None]
    slabs = []
    for n in range(len(steps)):  # one slab of displacements at a time, to save memory
        there = _rows(right, _places(size, points, [steps[n : n + 1]] + [steps] * (ndim - 1)))
        there = there.reshape(*here.shape[:2], -1, here.shape[2])
        slabs.append(torch.matmul(there, here)[..., 0])
    cost = torch.cat(slabs, dim=2).transpose(1, 2) / fixed.shape[1]
    counts = [along.shape[0] for along in points]
    volume: Tensor = cost.reshape(*cost.shape[:2], *counts)
    return volume


def _factors(fixed: Tensor, moving: Tensor) -> tuple[Tensor, Tensor]:
    one = torch.ones_like(fixed[:, :1])
    left = torch.cat([-2 * fixed, fixed.square().sum(dim=1, keepdim=True), one], dim=1)
    right = torch.cat([moving, one, moving.square().sum(dim=1, keepdim=True)], dim=1)
    return left, right


def _rows(cells: Tensor, places: Tensor) -> Tensor:
    """(b, c, *s) to (b, places, c): one gather of whole rows."""
    return cells.flatten(2).transpose(1, 2).index_select(1, places.reshape(-1))


def _places(size: Sequence[int], points: Sequence[Tensor], steps: Sequence[Tensor]) -> Tensor:
    """Flat index of every point displaced by every step, (*points, *steps); clamped."""
    ndim = len(size)
    places = torch.zeros((1,) * (2 * ndim), dtype=torch.int64, device=points[0].device)
    for axis, n in enumerate(size):
        place = (points[axis][:, None] + steps[axis]).clamp(0, n - 1)
        spread = [1] * (2 * ndim)
        spread[axis], spread[axis + ndim] = place.shape
        places = places * n + place.reshape(spread)
    return places


def _lattice(steps: Tensor, ndim: int) -> Tensor:
    """All d-tuples of the steps, the last one fastest, (count, d)."""
    return torch.stack(torch.meshgrid(*[steps] * ndim, indexing="ij"), dim=-1).reshape(-1, ndim)


def _counts(size: Sequence[int]) -> list[int]:
    return [(n + TILE - 1) // TILE for n in size]


def _cut(cells: Tensor, margin: int) -> Tensor:
    """(b, c, *s) to (b, tiles, w**d, c), w = TILE + 2 margin."""
    batch, channels, *size = cells.shape
    starts = [torch.arange(count, device=cells.device) * TILE for count in _counts(size)]
    around = torch.arange(-margin, TILE + margin, device=cells.device)
    rows = _rows(cells, _places(size, starts, [around] * len(size)))
    return rows.reshape(batch, -1, len(around) ** len(size), channels)


def wanted(radius: int, ndim: int) -> Tensor:
    """Where the displacements of each cell of a tile stand among its surroundings, flat."""
    width = TILE + 2 * radius
    cell = _lattice(torch.arange(TILE), ndim)
    there = cell[:, None, :] + _lattice(torch.arange(2 * radius + 1), ndim)[None]
    strides = torch.tensor([width ** (ndim - 1 - axis) for axis in range(ndim)])
    flat = (there * strides).sum(dim=-1)
    wanted: Tensor = torch.arange(TILE**ndim)[:, None] * width**ndim + flat
    return wanted.reshape(-1)


def _join(scores: Tensor, size: Sequence[int]) -> Tensor:
    """(b, tiles, cells of a tile * count) back to (b, count, *s)."""
    ndim, counts = len(size), _counts(size)
    cells = scores.reshape(scores.shape[0], *counts, *[TILE] * ndim, -1)
    order = [axis for pair in zip(range(1, ndim + 1), range(ndim + 1, 2 * ndim + 1), strict=True)
             for axis in pair]  # fmt: skip
    whole = [count * TILE for count in counts]
    joined = cells.permute(0, 2 * ndim + 1, *order).reshape(scores.shape[0], -1, *whole)
    for axis, n in enumerate(size):
        joined = joined.narrow(axis + 2, 0, n)
    return joined
