"""Losses of a fixed and a warped image; each takes a mask, and gives 0 where it is empty."""

import torch
from torch import Tensor

from trainer.losses.precision import full_precision

SMALLEST = 1e-6  # of a mask's sum, so that an empty one divides nothing by nothing


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """The mean of (b, c, *s) over all, or weighted by a mask (b, 1, *s)."""
    if mask is None:
        return values.mean()
    total = mask.sum().to(values.dtype) * values.shape[1]
    return (values * mask).sum() / total.clamp(min=SMALLEST)


@full_precision
def ssd(fixed: Tensor, warped: Tensor, mask: Tensor | None = None) -> Tensor:
    """The mean over the mask of (F - W)^2.

    Args:
        fixed: (b, c, *s).
        warped: (b, c, *s).
        mask: (b, 1, *s), in [0, 1].
    """
    return masked_mean((fixed - warped) ** 2, mask)


@full_precision
def tukey(
    fixed: Tensor, warped: Tensor, mask: Tensor | None = None, *, threshold: float = 0.5
) -> Tensor:
    """The mean of c^2 / 2 (1 - (1 - e^2 / c^2)^3) for errors e up to c, of c^2 / 2 above.

    Args:
        fixed: (b, c, *s).
        warped: (b, c, *s).
        mask: (b, 1, *s), in [0, 1].
        threshold: c.

    Source: Beaton and Tukey, The fitting of power series, Technometrics 16, 1974; as in VoxelMorph.
    """
    share = ((fixed - warped) ** 2 / threshold**2).clamp(max=1)
    return masked_mean(threshold**2 / 2 * (1 - (1 - share) ** 3), mask)


@full_precision
def ncc(
    fixed: Tensor,
    warped: Tensor,
    mask: Tensor | None = None,
    *,
    squared: bool = True,
    smooth: float = 1e-8,
) -> Tensor:
    """Minus the mean over batch and channels of Pearson's correlation, squared if so wished.

    cov^2 / (var F var W + smooth), or cov / sqrt(var F var W + smooth); a constant image gives 0.

    Args:
        fixed: (b, c, *s), intensities of the order of 1.
        warped: (b, c, *s).
        mask: (b, 1, *s), in [0, 1].
        squared: So that an inverted contrast counts as well.
        smooth: Keeps a constant image finite.
    """
    dims = tuple(range(2, fixed.ndim))
    share = torch.ones_like(fixed[:, :1]) if mask is None else mask.to(fixed.dtype)
    share = share / share.sum(dims, keepdim=True).clamp(min=SMALLEST)
    f = fixed - (share * fixed).sum(dims, keepdim=True)
    w = warped - (share * warped).sum(dims, keepdim=True)
    cov = (share * f * w).sum(dims)
    product = (share * f * f).sum(dims) * (share * w * w).sum(dims) + smooth
    return -(cov * cov / product if squared else cov / product.sqrt()).mean()
