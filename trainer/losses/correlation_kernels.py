"""Local correlation on the CPU: tensors handed to the threaded kernels and back."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from trainer.kernels import local_correlation as kernels
from trainer.sampling import torchs_threads


class WindowSetting(Protocol):
    """What the kernels need to know of a window."""

    @property
    def weights(self) -> tuple[Tensor, ...]: ...
    @property
    def border(self) -> str: ...
    @property
    def smooth(self) -> tuple[float, float]: ...
    @property
    def floor(self) -> float: ...
    @property
    def squared(self) -> bool: ...


def evaluate(
    fixed: Tensor, warped: Tensor, mask: Tensor | None, setting: WindowSetting, slope: bool
) -> tuple[Tensor, Tensor | None]:
    """The mean of cc and, if asked for, its derivative by `warped`, shaped like it."""
    f, w = _volumes(fixed), _volumes(warped)
    n, ni, nj, nk = f.shape
    m = np.empty((0, ni, nj, nk), f.dtype) if mask is None else _volumes(mask)
    shifts = _shifts(f, w, mask is None and setting.border == "zeros")
    weights = _padded_axes([weight.numpy().astype(f.dtype) for weight in setting.weights])
    flat = nj * (nk + 2 * (weights[2].size // 2))
    sums = np.empty((n, kernels.SUMS, ni, flat), f.dtype)
    integrands = np.empty((n, 3, ni, flat) if slope else (0, 3, ni, flat), f.dtype)
    totals = np.empty((n, max(1, -(-flat // kernels.BLOCK))))
    window = (weights, _counts((ni, nj, nk), weights, setting.border), setting.squared)
    smooth = np.array([*setting.smooth, setting.floor], f.dtype)
    out = np.empty_like(w) if slope else None
    with torchs_threads():
        kernels.sum_products((f, w), m, shifts, weights, sums)
        kernels.correlate(sums, m, window, smooth, (integrands, totals))
        if out is not None:
            kernels.derivative((f, w), m, shifts, weights, sums, out)
    total = float(f.size) if mask is None else max(float(m.sum(dtype=np.float64)), 1e-6)
    value = torch.tensor(totals.sum() / total, dtype=fixed.dtype)
    if out is None:
        return value, None
    return value, torch.from_numpy(out).reshape(warped.shape).div_(total)


def _volumes(x: Tensor) -> np.ndarray:
    """(b, c, *s) as (b c, ni, nj, nk), contiguous; a 2-D image has ni = 1."""
    size = x.shape[2:] if x.ndim == 5 else (1, *x.shape[2:])
    values: np.ndarray = x.detach().contiguous().reshape(-1, *size).numpy()
    return values


def _shifts(f: np.ndarray, w: np.ndarray, none: bool) -> np.ndarray:
    """About the mean of each image, so that small variances survive rounding."""
    if none:
        return np.zeros((f.shape[0], 2), f.dtype)
    few = [x[:, ::3, ::3, ::3].mean(axis=(1, 2, 3)) for x in (f, w)]
    return np.stack(few, axis=1).astype(f.dtype)


def _padded_axes(weights: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    first = [np.ones(1, weights[0].dtype)] if len(weights) == 2 else []
    i, j, k = first + weights
    return i, j, k


def _counts(
    size: Sequence[int], weights: Sequence[np.ndarray], border: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The sum of the window's weights by index along each axis; along k with a margin of ones."""
    counts = []
    for count, weight in zip(size, weights, strict=True):
        inside = np.ones(count, weight.dtype)
        if border == "inside":
            r = weight.size // 2
            inside = np.convolve(np.pad(inside, r), weight, "valid").astype(weight.dtype)
        else:
            inside *= weight.sum()
        counts.append(inside)
    along_k = np.pad(counts[2], weights[2].size // 2, constant_values=1)
    return counts[0], counts[1], along_k
