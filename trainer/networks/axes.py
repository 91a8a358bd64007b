"""Filters, pooling and upsampling as one small matrix for each axis.

onnxruntime's 3-D average pooling is a scalar loop, its matrix product is not; and matrices built
from `arange` follow the size of the image when the graph's shapes are dynamic.
"""

import torch
from torch import Tensor

Matrices = tuple[Tensor, Tensor, Tensor]


def along_axes(values: Tensor, matrices: Matrices) -> Tensor:
    """Apply (m, n) matrices along i, j and k of (c, i, j, k)."""
    first, second, third = matrices
    values = torch.matmul(values, third.T)
    values = torch.matmul(second, values)
    c, i, j, k = values.shape
    return torch.matmul(first, values.reshape(c, i, j * k)).reshape(c, -1, j, k)


def ramp(count: int, like: Tensor) -> Tensor:
    """0, 1, ... count - 1 as floats."""
    return torch.arange(count, device=like.device).to(like.dtype)


def hat(positions: Tensor, count: int) -> Tensor:
    """Weights (m, count) that interpolate linearly at m positions, clamped to the range."""
    positions = positions.clamp(0, count - 1)
    distance = positions[:, None] - ramp(count, positions)[None, :]
    return (1 - distance.abs()).clamp(min=0)


def box(count: int, like: Tensor) -> Tensor:
    """The mean of three neighbours; beyond the border the edge value goes on."""
    here = ramp(count, like)
    return (hat(here - 1, count) + hat(here, count) + hat(here + 1, count)) / 3


def halving(count: int, like: Tensor) -> Tensor:
    """The mean of two and two; a last one that is alone stands for itself."""
    half = 2 * ramp((count + 1) // 2, like)
    return (hat(half, count) + hat(half + 1, count)) / 2


def doubling(count: int, like: Tensor) -> Tensor:
    """Linear interpolation from cells of two voxels to `count` voxels, by position."""
    return hat((ramp(count, like) - 0.5) / 2, (count + 1) // 2)


def patch(count: int, like: Tensor, weights: tuple[float, ...]) -> Tensor:
    """A weighted mean at every second place: cell c draws on places 2 c, 2 c + 1, ..."""
    cell = 2 * ramp((count - len(weights)) // 2 + 1, like)
    step = ramp(count, like)[None, :] - cell[:, None]
    chosen = [weight * (step == n).to(like.dtype) for n, weight in enumerate(weights)]
    return torch.stack(chosen).sum(dim=0)
