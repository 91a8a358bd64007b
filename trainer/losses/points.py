"""How far moved points end from where they should, mm."""

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from trainer.losses.precision import full_precision

PointNorm = Literal["l1", "l2", "squared"]


@full_precision
def distance(
    u: Tensor,
    fixed_points: Tensor,
    moving_points: Tensor,
    *,
    spacing_mm: Sequence[float],
    norm: PointNorm = "l2",
) -> Tensor:
    """The mean over points of the length of x + u(x) - y in mm.

    Rows that hold NaN are padding and count nowhere; with no others the result is 0.

    Args:
        u: (b, d, *s), voxels.
        fixed_points: x, (b, n, d), voxels; beyond the grid u's edge value goes on.
        moving_points: y, (b, n, d), voxels of the same grid.
        spacing_mm: Of the grid, one for each axis.
        norm: `l1` sum of absolute components, `l2` Euclidean, `squared` its square, mm^2.
    """
    real = torch.isfinite(fixed_points).all(-1) & torch.isfinite(moving_points).all(-1)
    x = torch.where(real[..., None], fixed_points.to(u.dtype), 0.0)
    y = torch.where(real[..., None], moving_points.to(u.dtype), 0.0)
    error = (x + sample(u, x) - y) * torch.as_tensor(spacing_mm, dtype=u.dtype, device=u.device)
    lengths = torch.where(real, length(error, norm), 0.0)
    return lengths.sum() / real.sum().clamp(min=1)


def length(vectors: Tensor, norm: PointNorm) -> Tensor:
    """Of vectors along the last axis; the Euclidean one has derivative 0 at 0, not NaN."""
    if norm == "l1":
        return vectors.abs().sum(-1)
    squares = vectors.square().sum(-1)
    if norm == "squared":
        return squares
    some = squares > 0
    return torch.where(some, torch.where(some, squares, 1.0).sqrt(), 0.0)


def sample(u: Tensor, at: Tensor) -> Tensor:
    """u at points, linear, clamped to the grid.

    Args:
        u: (b, d, *s).
        at: (b, n, a), voxels along the a axes.

    Returns:
        (b, n, d).
    """
    b, d, *size = u.shape
    sizes = torch.as_tensor(size, device=u.device)
    at = torch.minimum(at.clamp(min=0), (sizes - 1).to(at.dtype))
    low = torch.minimum(at.floor().long(), (sizes - 2).clamp(min=0))
    share = at - low
    flat, total = u.reshape(b, d, -1), torch.zeros_like(at[..., :1])
    for corner in itertools.product((0, 1), repeat=len(size)):
        index, weight = torch.zeros_like(low[..., 0]), torch.ones_like(share[..., 0])
        for axis, step in enumerate(corner):
            place = (low[..., axis] + step).clamp(max=size[axis] - 1)
            index = index * size[axis] + place
            weight = weight * (share[..., axis] if step else 1 - share[..., axis])
        taken = torch.gather(flat, 2, index[:, None].expand(b, d, -1))
        total = total + weight[..., None] * taken.mT
    return total
