"""Local correlation: minus the mean correlation in a window around each voxel."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from trainer.losses.precision import full_precision
from trainer.losses.windows import WindowShape, filtered, window_weights

Border = Literal["inside", "zeros"]


@dataclass(frozen=True)
class _Setting:
    """A window's weights along each axis, and what keeps its correlation finite."""

    weights: tuple[Tensor, ...]
    border: Border
    smooth: tuple[float, float]  # of numerator and denominator, in means over the window
    floor: float
    squared: bool


@full_precision
def lncc(
    fixed: Tensor,
    warped: Tensor,
    mask: Tensor | None = None,
    *,
    window: int | Sequence[int] = 9,
    shape: WindowShape = "rectangular",
    squared: bool = True,
    border: Border = "inside",
    smooth: float = 1e-5,
    smooth_numerator: float = 0.0,
    variance_floor: float = 0.0,
) -> Tensor:
    """Minus the mean over voxels of the squared correlation in a window around each, in [-1, 0].

    cc = (cov(F, W)^2 + p) / (var F var W + q), means over the window; flat windows count as 0.
    With a mask, windows count its voxels only, and the mean is over the mask. Without one,
    windows at the border count the voxels inside, or see zeros outside, as `border` says. An
    empty mask gives 0.

    The derivative is exact and computed together with the value: on the CPU by threaded kernels.

    Args:
        fixed: (b, c, *s), intensities of the order of 1.
        warped: (b, c, *s).
        mask: (b, 1, *s), in [0, 1].
        window: Voxels of the window, odd; or one number for each axis.
        shape: Weights in the window.
        squared: Else the correlation itself, in [-1, 1].
        border: What a window holds beyond the border, where there is no mask.
        smooth: q, in sums over the window as in DeepReg; that is, q = smooth / voxels^2.
        smooth_numerator: p, likewise.
        variance_floor: Added to each variance.

    Source: Avants et al., Medical Image Analysis 12, 2008; the sums as in DeepReg and VoxelMorph.
    """
    ndim = fixed.ndim - 2
    sizes = [window] * ndim if isinstance(window, int) else list(window)
    weights = tuple(window_weights(size, shape) for size in sizes)
    volume = math.prod(sizes)
    setting = _Setting(
        weights,
        border,
        (smooth_numerator / volume**2, smooth / volume**2),
        variance_floor,
        squared,
    )
    if mask is not None:
        mask = mask.to(fixed.dtype).expand(fixed.shape)
    if not torch.is_grad_enabled():  # which a Function's forward pass cannot see
        fixed, warped = fixed.detach(), warped.detach()
    found: Tensor = _Correlation.apply(fixed, warped, mask, setting)  # type: ignore[no-untyped-call]
    return -found


class _Correlation(torch.autograd.Function):
    """The mean of cc; its derivatives are made in the forward pass, where the sums are at hand."""

    @staticmethod
    def forward(
        ctx: Any, fixed: Tensor, warped: Tensor, mask: Tensor | None, setting: _Setting
    ) -> Tensor:
        evaluate = _by_kernels if fixed.device.type == "cpu" else _by_torch
        needs = ctx.needs_input_grad
        value, slope = evaluate(fixed, warped, mask, setting, needs[1])
        mirrored = evaluate(warped, fixed, mask, setting, True)[1] if needs[0] else None
        ctx.save_for_backward(mirrored, slope)
        return value

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        slopes = [None if slope is None else slope * grad for slope in ctx.saved_tensors]
        return slopes[0], slopes[1], None, None


def _by_kernels(
    fixed: Tensor, warped: Tensor, mask: Tensor | None, setting: _Setting, slope: bool
) -> tuple[Tensor, Tensor | None]:
    """The mean of cc and its derivative by `warped`, threaded on the CPU."""
    # Compiling takes seconds once; who never trains on a CPU does not wait for it.
    from trainer.losses import correlation_kernels

    return correlation_kernels.evaluate(fixed, warped, mask, setting, slope)


def _by_torch(
    fixed: Tensor, warped: Tensor, mask: Tensor | None, setting: _Setting, slope: bool
) -> tuple[Tensor, Tensor | None]:
    """The same with torch's convolutions, on any device."""
    weights = setting.weights
    if mask is None and setting.border == "zeros":
        inverse: Tensor | float = 1.0 / float(torch.stack([w.sum() for w in weights]).prod())
    else:
        inside = torch.ones_like(fixed[:1, :1]) if mask is None else mask
        n = filtered(inside, weights)
        inverse = torch.where(n > 0, 1 / n, 0.0)
        dims = tuple(range(2, fixed.ndim))
        fixed = fixed - fixed.mean(dims, keepdim=True)
        warped = warped - warped.mean(dims, keepdim=True)
    m = torch.ones((), dtype=fixed.dtype, device=fixed.device) if mask is None else mask

    def mean(x: Tensor) -> Tensor:
        return filtered((x * m).contiguous(), weights) * inverse

    mf, mw = mean(fixed), mean(warped)
    vf = (mean(fixed * fixed) - mf * mf).clamp(min=0) + setting.floor
    vw = (mean(warped * warped) - mw * mw).clamp(min=0) + setting.floor
    cov = mean(fixed * warped) - mf * mw
    cc, a, b = _correlations(cov, vf, vw, setting)
    total = float(fixed.numel()) if mask is None else m.sum().clamp(min=1e-6)
    value = (cc * m).sum() / total
    if not slope:
        return value, None
    a, b = a * inverse * m, b * inverse * m
    box = [filtered(x, weights) for x in (a, b, b * mw - a * mf)]
    return value, m * (fixed * box[0] - warped * box[1] + box[2]) / total


def _correlations(
    cov: Tensor, vf: Tensor, vw: Tensor, setting: _Setting
) -> tuple[Tensor, Tensor, Tensor]:
    """cc, dcc/dcov and -2 dcc/dvW."""
    p, q = setting.smooth
    product = vf * vw + q
    inverse = torch.where(product > 0, 1 / product, 0.0)
    if setting.squared:
        cc = (cov * cov + p) * inverse
        return cc, 2 * cov * inverse, 2 * cc * vf * inverse
    root = inverse.sqrt()
    return cov * root, root, cov * root * vf * inverse
