"""Sampling inside the discrete network's graph, one pair at a time.

A field u is (3, i, j, k): displacements in voxels along i, j and k, index 0 at the centre of the
first voxel. Unlike `trainer.spatial`, what lies beyond the border has the edge's value: a search
that starts from it is not misled by zeros.
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
