"""Warp, compose and integrate in torch, in the service's convention.

A field u is (3, i, j, k): displacements in voxels along i, j and k. Index 0 is the centre of the
first voxel (`align_corners=True`), and u points from where a value is wanted to where it is taken.
"""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name


def pull(values: Tensor, field: Tensor) -> Tensor:
    """out(x) = values(x + u(x)), linear; beyond the border the edge value goes on.

    Args:
        values: (c, i, j, k).
        field: (3, i, j, k).
    """
    sampled = F.grid_sample(
        values[None],
        _normalised(field)[None],
        mode="bilinear",
        padding_mode="border",
        align_corners=True,
    )
    return sampled[0]


def _normalised(field: Tensor) -> Tensor:
    """x + u(x) in [-1, 1], last axis in grid_sample's order k, j, i.

    Built from `arange`: `linspace` and `affine_grid` would freeze the size of an exported graph.
    """
    ends = []
    for axis, count in enumerate(field.shape[1:]):
        shape = [1, 1, 1]
        shape[axis] = -1
        places = torch.arange(count, device=field.device).to(field.dtype).reshape(shape)
        ends.append((places + field[axis]) * (2 / max(count - 1, 1)) - 1)
    return torch.stack(ends[::-1], dim=-1)


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """First `inner`, then `outer`: inner(x) + outer(x + inner(x))."""
    return inner + pull(outer, inner)


def integrate(velocity: Tensor, steps: int = 7) -> Tensor:
    """Scaling and squaring of a stationary velocity field, both in voxels.

    Source: Arsigny et al., A Log-Euclidean Framework for Statistics on Diffeomorphisms, 2006.
    """
    field: Tensor = velocity / float(2**steps)
    for _ in range(steps):
        field = compose(field, field)
    return field


def warp(moving: Tensor, field: Tensor, fill: float = 0.0) -> Tensor:
    """moving(x + u(x)) with ITK's border: inside is [-0.5, n - 0.5], clamped; else `fill`."""
    inside = torch.ones_like(field[0], dtype=torch.bool)
    for axis, count in enumerate(moving.shape[1:]):
        shape = [1, 1, 1]
        shape[axis] = -1
        places = torch.arange(field.shape[axis + 1], device=field.device).reshape(shape)
        index = places + field[axis]
        inside &= (index >= -0.5) & (index <= count - 0.5)
    return torch.where(inside, pull(moving, field), torch.full_like(moving, fill))
