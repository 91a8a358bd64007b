"""Local correlation on the CPU: tensors handed to the threaded kernels and back."""

from collections.abc import Sequence
from typing import Protocol

import numba
import numpy as np
import torch
from torch import Tensor

from trainer.kernels import local_correlation as kernels

_MOST_THREADS = numba.get_num_threads()


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
    m = np.empty((1, 0, 0, 0), f.dtype) if mask is None else _volumes(mask)
    shifts = _shifts(f, w, mask is None and setting.border == "zeros")
    weights = _padded_axes([weight.numpy().astype(f.dtype) for weight in setting.weights])
    counts = _counts(f.shape[1:], weights, setting.border)
    window = (weights, counts, setting.squared)
    smooth = np.array([*setting.smooth, setting.floor], f.dtype)
    n, ni, nj, nk = f.shape
    integrands = np.empty((n, 3, ni, nj, nk) if slope else (1, 3, 0, 0, 0), f.dtype)
    totals = np.zeros((n, ni))
    _follow_torch_threads()
    kernels.correlate((f, w), m, shifts, window, smooth, (integrands, totals))
    total = float(f.size) if mask is None else max(float(m.sum(dtype=np.float64)), 1e-6)
    value = torch.tensor(totals.sum() / total, dtype=fixed.dtype)
    if not slope:
        return value, None
    out = np.empty_like(w)
    kernels.derivative((f, w), m, shifts, weights, integrands, out)
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
    """The sum of the window's weights by index along each axis."""
    counts = []
    for count, weight in zip(size, weights, strict=True):
        inside = np.ones(count, weight.dtype)
        if border == "inside":
            r = weight.size // 2
            inside = np.convolve(np.pad(inside, r), weight, "valid").astype(weight.dtype)
        else:
            inside *= weight.sum()
        counts.append(inside)
    return counts[0], counts[1], counts[2]


def _follow_torch_threads() -> None:
    """As many threads as torch has been given; several processes share the cores that way."""
    numba.set_num_threads(min(torch.get_num_threads(), _MOST_THREADS))
