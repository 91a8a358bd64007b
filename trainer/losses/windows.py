"""Windows and blurs: weights along one axis, applied along each."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

WindowShape = Literal["rectangular", "triangular", "gaussian"]
BlurKernel = Literal["gaussian", "cauchy"]


def window_weights(size: int, shape: WindowShape = "rectangular") -> Tensor:
    """Weights (size,) of a window of local correlation, float64.

    `rectangular`: ones; `triangular`: a box of about half the size, blurred by itself;
    `gaussian`: sigma size / 3, the middle 1.

    Source: DeepReg, loss/kernel.py.
    """
    if shape == "rectangular":
        return torch.ones(size, dtype=torch.float64)
    if shape == "gaussian":
        x = torch.arange(size, dtype=torch.float64) - size // 2
        return torch.exp(-0.5 * (x * 3 / size) ** 2)
    half = (size + 1) // 2
    half -= 1 - half % 2
    x = torch.arange(size, dtype=torch.float64) - size // 2
    return (half - x.abs()).clamp(min=0) / half**2


def blur_weights(sigma: float, kernel: BlurKernel = "gaussian") -> Tensor:
    """Weights of a blur, float64, of sum 1: a Gaussian cut at 3 sigma, or Cauchy's cut at 5.

    Args:
        sigma: Voxels, above 0.
        kernel: `gaussian`: exp(-x^2 / (2 sigma^2)); `cauchy`: 1 / (1 + (x / sigma)^2).

    Source: DeepReg, loss/kernel.py.
    """
    reach = 3 if kernel == "gaussian" else 5
    tail = max(int(sigma * reach + (0.5 if kernel == "gaussian" else 0.0)), 0)
    x = torch.arange(-tail, tail + 1, dtype=torch.float64) / sigma
    weights = torch.exp(-0.5 * x * x) if kernel == "gaussian" else 1 / (1 + x * x)
    return weights / weights.sum()


def filtered(x: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Weighted sums along each axis of (b, c, *s); beyond the border there are zeros."""
    b, c, *size = x.shape
    out = x.reshape(b * c, 1, *size)
    conv = F.conv3d if len(size) == 3 else F.conv2d
    for axis, weight in enumerate(weights):
        shape = [1] * len(size)
        shape[axis] = weight.numel()
        padding = [n // 2 for n in shape]
        out = conv(out, weight.to(out).reshape(1, 1, *shape), padding=padding)
    return out.reshape(x.shape)


def blurred(x: Tensor, sigmas: Sequence[float], kernel: BlurKernel = "gaussian") -> Tensor:
    """(b, c, *s) blurred along each axis; beyond the border there are zeros.

    As a product with a banded matrix: for wide blurs faster than a convolution, backwards too.

    Args:
        x: Values.
        sigmas: Voxels, one for each axis; 0 leaves an axis as it is.
        kernel: See `blur_weights`.
    """
    for axis, sigma in enumerate(sigmas):
        if sigma > 0:
            band = _band(x.shape[axis + 2], blur_weights(sigma, kernel)).to(x)
            x = _multiplied(x, band, axis + 2)
    return x


def _band(count: int, weights: Tensor) -> Tensor:
    """(count, count): row p holds the weights around column p."""
    tail = weights.numel() // 2
    places = torch.arange(count)
    offset = places[None, :] - places[:, None]
    inside = offset.abs() <= tail
    return torch.where(inside, weights[(offset + tail).clamp(0, 2 * tail)], 0.0)


def _multiplied(x: Tensor, matrix: Tensor, axis: int) -> Tensor:
    """`matrix` applied along one axis, without moving the others."""
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    if not after:
        return x @ matrix.T
    flat = x.reshape(math.prod(before), x.shape[axis], math.prod(after))
    return (matrix @ flat).reshape(*before, matrix.shape[0], *after)
