"""Interpolation and smoothing of batched fields as one small matrix for each axis.

The matrices of `axes` are built from `arange`, so they follow the image's size in an exported
graph, and a matrix product is fast where onnxruntime's pooling and resizing in 3-D are not.
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from trainer.networks.axes import hat, ramp


def along_each(values: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Apply an (m, n) matrix along each spatial axis of (b, c, *s)."""
    for axis, matrix in enumerate(matrices, start=2):
        lead, (rows, columns) = values.shape[:axis], matrix.shape
        tail = values.shape[axis + 1 :]
        if axis == values.ndim - 1:
            values = torch.matmul(values, matrix.T)
        else:
            flat = values.reshape(-1, columns, prod(tail))
            values = torch.matmul(matrix, flat).reshape(*lead, rows, *tail)
    return values


def expand(
    field: Tensor, size: Sequence[int], stride: float, offset: float | None = None
) -> Tensor:
    """Interpolate linearly from cells at offset + stride * c to positions 0 ... size - 1.

    Beyond the outermost cells their values go on.

    Args:
        field: (b, c, *cells).
        size: Of the result.
        stride: Distance of two cells, in the result's cells.
        offset: Position of the first cell in the result; by default (stride - 1) / 2, that of
            cells which each cover `stride` of the result's.
    """
    first = (stride - 1) / 2 if offset is None else offset
    counts = zip(field.shape[2:], size, strict=True)
    return along_each(
        field, [hat((ramp(fine, field) - first) / stride, coarse) for coarse, fine in counts]
    )


def triangle(count: int, like: Tensor) -> Tensor:
    """The mean of three neighbours, twice: weights 1, 2, 3, 2, 1; the edge value goes on."""
    taps = torch.arange(-2, 3, device=like.device)
    weights = ((3 - taps.abs()) / 9).to(like.dtype)
    here = torch.arange(count, device=like.device)
    places = (here[:, None] + taps).clamp(0, count - 1)
    chosen = (places[:, :, None] == here).to(like.dtype)
    return torch.matmul(weights, chosen)
