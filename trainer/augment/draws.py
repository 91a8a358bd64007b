"""Random numbers and smooth random fields, from a generator on the CPU."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def uniform(draw: torch.Generator, low: float, high: float) -> float:
    """One number in [low, high)."""
    return low + (high - low) * float(torch.rand((), generator=draw))


def whole(draw: torch.Generator, low: int, high: int) -> int:
    """One whole number from low up to and with high."""
    return int(torch.randint(low, high + 1, (), generator=draw))


def happens(draw: torch.Generator, probability: float) -> bool:
    """True with a probability; draws one number either way."""
    return float(torch.rand((), generator=draw)) < probability


def smooth_field(
    draw: torch.Generator, channels: int, size: Sequence[int], nodes_apart: Sequence[float]
) -> Tensor:
    """A cubic B-spline of normal random coefficients, (channels, *size), spread about 1 at nodes.

    Args:
        draw: Where the numbers come from.
        channels: Independent fields.
        size: Voxels along each axis.
        nodes_apart: Voxels between nodes along each axis; the nodes' place is random too.
    """
    matrices = [
        _spline(n, apart, uniform(draw, 0, 1)) for n, apart in zip(size, nodes_apart, strict=True)
    ]
    field = torch.randn(
        (channels, *(matrix.shape[1] for matrix in matrices)), generator=draw
    ) * math.sqrt(2) ** len(size)  # a spline at a node has half the variance for each axis
    for matrix in matrices:  # the first spatial axis is used up, its voxels come last
        field = torch.tensordot(field, matrix, dims=([1], [1]))
    return field


def _spline(count: int, apart: float, phase: float) -> Tensor:
    """(count, nodes): weights of the nodes at each voxel.

    Source: Unser, Splines: a perfect fit for signal and image processing, 1999, eq. 1.
    """
    places = torch.arange(count) / apart + phase
    nodes = torch.arange(math.floor(float(places[-1])) + 4) - 1
    far = (places[:, None] - nodes).abs()
    near = 2 / 3 - far**2 + far**3 / 2
    return torch.where(far < 1, near, torch.where(far < 2, (2 - far) ** 3 / 6, 0.0))
