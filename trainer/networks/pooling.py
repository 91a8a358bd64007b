"""Leaky ReLU followed by the maximum of each cell of two voxels along each axis, as one step."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

from trainer.kernels import pooling
from trainer.sampling import is_for_kernels, torchs_threads


def leaky_pool(values: Tensor, slope: float, *, keep: bool = True) -> tuple[Tensor | None, Tensor]:
    """leaky(values) and the maximum of its cells.

    On the CPU in one pass over memory each way, where torch takes four: pooling and rectifying a
    first level of many channels is otherwise as dear as its convolution.

    Args:
        values: (b, c, *s).
        slope: Of the negative side, 0 to 1.
        keep: Whether the rectified values are wanted themselves.

    Returns:
        The rectified values, or None, and (b, c, *s // 2); a last odd voxel is left out.
    """
    size = values.shape[2:]
    if is_for_kernels(values) and not any(n % 2 for n in size):
        kept, pooled = _LeakyPool.apply(values, slope, keep)  # type: ignore[no-untyped-call]
        return kept, pooled
    rectified = F.leaky_relu(values, slope)
    pool = F.max_pool3d if len(size) == 3 else F.max_pool2d
    return (rectified if keep else None), pool(rectified, 2)


class _LeakyPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, slope: float, keep: bool) -> tuple[Tensor | None, Tensor]:
        source = _volumes(values)
        size = [n // 2 for n in values.shape[2:]]
        pooled = values.new_empty(*values.shape[:2], *size)
        which = torch.empty_like(pooled, dtype=torch.uint8)
        kept = values.new_empty(values.shape) if keep else None
        with torchs_threads():
            pooling.pool(source, np.float32(slope), _volumes(pooled), _volumes(which))
            if kept is not None:
                rows = source.reshape(-1, source.shape[-1])
                pooling.rectify(rows, np.float32(slope), kept.numpy().reshape(rows.shape))
        ctx.save_for_backward(pooled, which, kept)
        ctx.slope, ctx.shape = slope, values.shape
        return kept, pooled

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, by_kept: Tensor | None, by_pooled: Tensor) -> tuple[Any, ...]:
        pooled, which, kept = ctx.saved_tensors
        nothing = pooled.new_empty(0, 0, 0, 0, 0)
        other = (nothing, nothing) if kept is None or by_kept is None else (by_kept, kept)
        out = pooled.new_empty(ctx.shape)
        with torchs_threads():
            pooling.pool_backward(
                _volumes(by_pooled),
                (_volumes(pooled), _volumes(which)),
                (_volumes(other[0]), _volumes(other[1])),
                np.float32(ctx.slope),
                _volumes(out),
            )
        return out, None, None


def _volumes(x: Tensor) -> Any:
    """(b, c, *s) as (b c, i, j, k), contiguous; a 2-D image has one voxel along i."""
    size = x.shape[2:] if x.ndim == 5 else (1, *x.shape[2:])
    return x.detach().contiguous().reshape(x.shape[0] * x.shape[1], *size).numpy()
