"""Losses of labels, (b, l, *s) in [0, 1], each label of each pair a map of its own.

`present` (b, l) says which labels both images have; the others are left out of the mean, and a
batch without any gives 0. A sharp and a blurred comparison are the same formula, see `multiscale`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from trainer.losses.precision import full_precision

LabelLoss = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def mean_of_present(values: Tensor, present: Tensor | None) -> Tensor:
    """The mean of (b, l) over the labels that are there."""
    if present is None:
        return values.mean()
    kept = torch.where(present, values, 0.0)
    return kept.sum() / present.sum().clamp(min=1)


def _sums(x: Tensor) -> Tensor:
    return x.sum(tuple(range(2, x.ndim)))


def _overlap_and_union(fixed: Tensor, warped: Tensor, g: float) -> tuple[Tensor, Tensor]:
    """f sum TP + g sum TN, and f sum (T + P - TP) + g sum (1 - TP), f = 1 - g; each (b, l)."""
    voxels, both = fixed[0, 0].numel(), _sums(fixed * warped)
    either = _sums(fixed) + _sums(warped)
    return both - g * either + g * voxels, (1 - g) * either - both + g * voxels


@full_precision
def dice(
    fixed: Tensor,
    warped: Tensor,
    present: Tensor | None = None,
    *,
    background_weight: float = 0.0,
    smooth: float = 1e-5,
) -> Tensor:
    """One minus 2 (f sum TP + g sum TN) / (f sum (T + P) + g sum (2 - T - P)), mean over labels.

    T and P are the fixed and the warped label, TP their product, TN that of their complements;
    g is the background's weight and f = 1 - g. An empty label in both gives 0.

    Args:
        fixed: (b, l, *s).
        warped: (b, l, *s).
        present: (b, l), bool.
        background_weight: g.
        smooth: Added to numerator and denominator, voxels.

    Source: DeepReg, loss/label.py, with 1 - x for -x.
    """
    overlap, union = _overlap_and_union(fixed, warped, background_weight)
    return mean_of_present(1 - (2 * overlap + smooth) / (overlap + union + smooth), present)


@full_precision
def jaccard(
    fixed: Tensor,
    warped: Tensor,
    present: Tensor | None = None,
    *,
    background_weight: float = 0.0,
    smooth: float = 1e-5,
) -> Tensor:
    """One minus (f sum TP + g sum TN) / (f sum (T + P - TP) + g sum (1 - TP)), mean over labels.

    Args:
        fixed: (b, l, *s).
        warped: (b, l, *s).
        present: (b, l), bool.
        background_weight: g; f = 1 - g.
        smooth: Added to numerator and denominator, voxels.

    Source: DeepReg, loss/label.py, with 1 - x for -x.
    """
    overlap, union = _overlap_and_union(fixed, warped, background_weight)
    return mean_of_present(1 - (overlap + smooth) / (union + smooth), present)


@full_precision
def cross_entropy(
    fixed: Tensor,
    warped: Tensor,
    present: Tensor | None = None,
    *,
    background_weight: float = 0.0,
    smooth: float = 1e-5,
) -> Tensor:
    """Minus f mean(T log(P + s)) + g mean((1 - T) log(1 - P + s)), mean over labels.

    With g = 0 only the label's own voxels count, as in DeepReg.

    Args:
        fixed: T, (b, l, *s).
        warped: P, (b, l, *s).
        present: (b, l), bool.
        background_weight: g; f = 1 - g.
        smooth: s.

    Source: DeepReg, loss/label.py.
    """
    voxels, warped, g = fixed[0, 0].numel(), warped.clamp(0, 1), background_weight
    total = (1 - g) * _sums(fixed * (warped + smooth).log())
    if g > 0:
        total = total + g * _sums((1 - fixed) * (1 - warped + smooth).log())
    return mean_of_present(-total / voxels, present)


@full_precision
def mean_square(
    fixed: Tensor,
    warped: Tensor,
    present: Tensor | None = None,
    *,
    background_weight: float = 0.0,
) -> Tensor:
    """The mean of (T - P)^2 over voxels and labels.

    With a background's weight g above 0, voxels count by (1 - g) T + g (1 - T) of the fixed label,
    divided by its mean.

    Args:
        fixed: T, (b, l, *s).
        warped: P, (b, l, *s).
        present: (b, l), bool.
        background_weight: g; 0 counts every voxel alike, as DeepReg's `ssd`.
    """
    squares, g = (fixed - warped).square(), background_weight
    if g == 0:
        return mean_of_present(_sums(squares) / fixed[0, 0].numel(), present)
    share = (1 - g) * fixed + g * (1 - fixed)
    return mean_of_present(_sums(share * squares) / _sums(share).clamp(min=1e-6), present)
