"""Mutual information of two images, by Parzen windows: of the whole images, or of patches."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

from trainer.losses.precision import full_precision

Kernel = Literal["gaussian", "b-spline"]
SMOOTH = 1e-7  # in the logarithm, as in MONAI
CHUNK = 1 << 16  # voxels whose weights are held at a time
EDGE_BINS = 2  # at each end of the histogram, for the cubic spline's tails

# Weights (n, voxels, bins) of values (n, voxels), and their derivatives by the values if asked for.
Windows = Callable[[Tensor, bool], tuple[Tensor, Tensor | None]]


@full_precision
def mutual_information(
    fixed: Tensor,
    warped: Tensor,
    mask: Tensor | None = None,
    *,
    kernel: Kernel = "gaussian",
    bins: int = 23,
    sigma_ratio: float = 0.5,
) -> Tensor:
    """Minus the mean over batch and channels of sum p_ab log(p_ab / (p_a p_b)), in nats.

    The joint histogram p_ab counts each voxel with smooth weights. Voxels are taken in chunks and
    their weights made again for the derivative, so memory does not grow with the bins.

    Args:
        fixed: (b, c, *s); for the Gaussian kernel clipped to [0, 1].
        warped: (b, c, *s), likewise.
        mask: (b, 1, *s), in [0, 1]; what counts.
        kernel: `gaussian`: exp(-(x - bin)^2 / (2 sigma^2)), normalised, both images; `b-spline`:
            cubic for `warped`, a box for `fixed`, bins over each image's range, which the
            derivative takes as given. The fixed image then has no derivative.
        bins: Of each image.
        sigma_ratio: The Gaussian's sigma, in bins.

    Source: Viola and Wells 1997; Mattes et al., SPIE Medical Imaging 2001; Guo, MIT 2019
    (`gaussian`).
    """
    share = _shares(fixed, mask)
    windows = _windows(fixed, warped, kernel, bins, sigma_ratio)
    flat = [x.expand(fixed.shape).reshape(-1, fixed[0, 0].numel()) for x in (fixed, warped, share)]
    found: Tensor = _Information.apply(*flat, windows)  # type: ignore[no-untyped-call]
    return -found.mean()


@full_precision
def local_mutual_information(
    fixed: Tensor,
    warped: Tensor,
    mask: Tensor | None = None,
    *,
    patch: int = 16,
    kernel: Kernel = "gaussian",
    bins: int = 23,
    sigma_ratio: float = 0.5,
) -> Tensor:
    """Minus the mean over patches of their mutual information; see `mutual_information`.

    Patches do not overlap and begin at index 0; the last ones along an axis hold what is left.
    Each counts by its voxels in the mask.

    Args:
        fixed: (b, c, *s).
        warped: (b, c, *s).
        mask: (b, 1, *s), in [0, 1].
        patch: Voxels along each axis.
        kernel: As for `mutual_information`; the range is that of the whole image.
        bins: Of each image.
        sigma_ratio: The Gaussian's sigma, in bins.
    """
    windows = _windows(fixed, warped, kernel, bins, sigma_ratio)
    inside = torch.ones_like(fixed[:, :1]) if mask is None else mask.to(fixed.dtype)
    f, w, m = (_patches(x, patch) for x in (fixed, warped, inside.expand(fixed.shape)))
    count = m.sum(dim=1)
    share = m / count[:, None].clamp(min=1e-6)
    found: Tensor = _Information.apply(f, w, share, windows)  # type: ignore[no-untyped-call]
    return -(found * count).sum() / count.sum().clamp(min=1e-6)


def _shares(fixed: Tensor, mask: Tensor | None) -> Tensor:
    """What each voxel adds to its histogram: (b, 1, *s), sum 1."""
    inside = torch.ones_like(fixed[:, :1]) if mask is None else mask.to(fixed.dtype)
    dims = tuple(range(1, inside.ndim))
    return inside / inside.sum(dims, keepdim=True).clamp(min=1e-6)


def _patches(x: Tensor, patch: int) -> Tensor:
    """(b, c, *s) as (all patches, their voxels), zeros beyond the border."""
    size = x.shape[2:]
    x = F.pad(x, [end for n in reversed(size) for end in (0, -n % patch)])
    b, c, *grown = x.shape
    split = [part for n in grown for part in (n // patch, patch)]
    ndim = len(size)
    blocks, inner = [2 + 2 * a for a in range(ndim)], [3 + 2 * a for a in range(ndim)]
    return x.reshape(b, c, *split).permute(0, 1, *blocks, *inner).reshape(-1, patch**ndim)


@dataclass(frozen=True)
class _Gaussian:
    """Normalised Gaussian weights of bins whose centres divide [0, 1]."""

    bins: int
    sigma_ratio: float

    def __call__(self, x: Tensor, slope: bool) -> tuple[Tensor, Tensor | None]:
        """Weights and derivatives; no derivative where x is clipped."""
        centres = torch.linspace(0, 1, self.bins, dtype=x.dtype, device=x.device)
        rate = ((self.bins - 1) / self.sigma_ratio) ** 2
        offset = centres - x.clamp(0, 1)[..., None]
        weights = torch.softmax(offset * offset * (-rate / 2), dim=-1)
        if not slope:
            return weights, None
        inner = offset - (weights * offset).sum(-1, keepdim=True)
        inside = (x >= 0) & (x <= 1)
        return weights, weights * inner * rate * inside[..., None]


@dataclass(frozen=True)
class _Spline:
    """B-spline weights of order 3 or 0; bins divide the range, EDGE_BINS more at each end."""

    bins: int
    order: int
    low: Tensor
    high: Tensor

    def __call__(self, x: Tensor, slope: bool) -> tuple[Tensor, Tensor | None]:
        """Weights and derivatives; a box has none."""
        width = ((self.high - self.low) / (self.bins - 2 * EDGE_BINS)).clamp(min=1e-12)
        place = (x - self.low) / width + EDGE_BINS
        inside = (place >= EDGE_BINS) & (place <= self.bins - EDGE_BINS - 1)
        place = place.clamp(EDGE_BINS, self.bins - EDGE_BINS - 1)
        offset = place[..., None] - torch.arange(self.bins, device=x.device)
        t = offset.abs()
        if self.order == 0:
            return (t < 0.5).to(x.dtype) + 0.5 * (t == 0.5), torch.zeros_like(t) if slope else None
        outer = (2 - t).clamp(min=0)
        near = t < 1
        weights = torch.where(near, (4 - 6 * t**2 + 3 * t**3) / 6, outer**3 / 6)
        if not slope:
            return weights, None
        rise = torch.where(near, -2 * t + 1.5 * t**2, -(outer**2) / 2)
        return weights, rise * offset.sign() * inside[..., None] / width


def _windows(
    fixed: Tensor, warped: Tensor, kernel: Kernel, bins: int, sigma_ratio: float
) -> tuple[Windows, Windows]:
    if kernel == "gaussian":
        both = _Gaussian(bins, sigma_ratio)
        return both, both
    f, w = fixed.detach(), warped.detach()
    return _Spline(bins, 0, f.min(), f.max()), _Spline(bins, 3, w.min(), w.max())


class _Information(torch.autograd.Function):
    """Mutual information (n,) of values (n, voxels) that count by `share` (n, voxels)."""

    @staticmethod
    def forward(
        ctx: Any, fixed: Tensor, warped: Tensor, share: Tensor, windows: tuple[Windows, Windows]
    ) -> Tensor:
        parts = [
            torch.matmul((windows[0](f, False)[0] * s[..., None]).mT, windows[1](w, False)[0])
            for f, w, s in _chunks(fixed, warped, share)
        ]
        joint = torch.stack(parts).sum(0)
        alone = joint.sum(2, keepdim=True), joint.sum(1, keepdim=True)
        expected = alone[0] * alone[1] + SMOOTH
        ratio = (joint + SMOOTH) / expected + SMOOTH
        ctx.save_for_backward(fixed, warped, share, _slope(joint, alone, expected, ratio))
        ctx.windows = windows
        information: Tensor = (joint * ratio.log()).sum((1, 2))
        return information

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        fixed, warped, share, slope = ctx.saved_tensors
        slope = slope * grad[:, None, None]
        to_fixed, to_warped = [], []
        for f, w, s in _chunks(fixed, warped, share):
            wf, df = ctx.windows[0](f, ctx.needs_input_grad[0])
            ww, dw = ctx.windows[1](w, ctx.needs_input_grad[1])
            if df is not None:
                to_fixed.append((torch.matmul(ww, slope.mT) * df).sum(-1) * s)
            if dw is not None:
                to_warped.append((torch.matmul(wf, slope) * dw).sum(-1) * s)
        grads = [torch.cat(parts, dim=1) if parts else None for parts in (to_fixed, to_warped)]
        return grads[0], grads[1], None, None


def _chunks(*flat: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Parts of (n, voxels) tensors with about CHUNK voxels in all."""
    n, count = flat[0].shape
    step = max(1, CHUNK // n)
    for start in range(0, count, step):
        yield tuple(x[:, start : start + step] for x in flat)


def _slope(joint: Tensor, alone: tuple[Tensor, Tensor], expected: Tensor, ratio: Tensor) -> Tensor:
    """The derivative of sum p log(ratio) by p_ab, which is in p_a and p_b too."""
    inner = joint / ratio
    by_expected = inner * (joint + SMOOTH) / expected**2
    to_a = (by_expected * alone[1]).sum(2, keepdim=True)
    to_b = (by_expected * alone[0]).sum(1, keepdim=True)
    return ratio.log() + inner / expected - to_a - to_b
