"""What a field should not be: steep, bent, folded, or different there and back. Physical units.

Fields are (b, d, *s) in voxels; component a along axis a is spacing_mm[a] times as long in mm, and
a step along axis b is spacing_mm[b], so derivatives are
    du_a/dx_b = (change of u_a per voxel along b) * spacing_mm[a] / spacing_mm[b].
A velocity given at a stride is one on a grid of cells: values in cells, spacing that of cells.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from trainer.losses.points import PointNorm, length
from trainer.losses.precision import full_precision
from trainer.spatial import compose, jacobian_determinant

Norm = Literal["l1", "l2"]
Difference = Literal["forward", "central"]
Taps = tuple[float, ...]

# Coefficients from the last neighbour to the first.
FORWARD: Taps = (1.0, -1.0)
CENTRAL: Taps = (0.5, 0.0, -0.5)
SECOND: Taps = (1.0, -2.0, 1.0)


@full_precision
def gradient(
    u: Tensor,
    *,
    spacing_mm: Sequence[float],
    norm: Norm = "l2",
    difference: Difference = "forward",
) -> Tensor:
    """The mean over voxels and components of sum over b of |du_a/dx_b|, or of its square.

    `forward` differences u(x + 1) - u(x), each axis averaged over its own steps, as VoxelMorph,
    whose sum over axes is divided by their number; `central` ones (u(x + 1) - u(x - 1)) / 2 over
    the interior, as DeepReg and MONAI.

    Args:
        u: (b, d, *s), voxels; a displacement or a velocity.
        spacing_mm: Of the grid, one for each axis.
        norm: Absolute values or squares.
        difference: `central` is blind to what alternates from voxel to voxel.

    Returns:
        No unit (mm per mm).
    """
    terms = []
    for axis in range(u.shape[1]):
        scale = [s / spacing_mm[axis] for s in spacing_mm]
        if difference == "forward":
            terms.append(_Stencil(_steps(u, {axis: FORWARD}), scale))
        else:
            steps = _steps(u, {axis: CENTRAL}, interior=True)
            terms.append(_Stencil(steps, scale))
    return _mean_size(u, terms, norm)


@full_precision
def bending(u: Tensor, *, spacing_mm: Sequence[float]) -> Tensor:
    """The mean over voxels and components of sum over b, c of (d2u_a/dx_b dx_c)^2, interior.

    Second differences 1, -2, 1; mixed ones from the four diagonal neighbours; twice counted.

    Args:
        u: (b, d, *s), voxels, at least 3 along each axis.
        spacing_mm: Of the grid, one for each axis.

    Returns:
        1 / mm^2.

    Source: Rueckert et al., Nonrigid registration using free-form deformations, 1999, eq. 6.
    """
    terms = []
    for b, c in itertools.combinations_with_replacement(range(u.shape[1]), 2):
        scale = [s / (spacing_mm[b] * spacing_mm[c]) for s in spacing_mm]
        taps = {b: SECOND} if b == c else {b: CENTRAL, c: CENTRAL}
        terms.append(_Stencil(_steps(u, taps, interior=True), scale, 1.0 if b == c else 2.0))
    return _mean_size(u, terms, "l2")


@full_precision
def folding(u: Tensor, *, squared: bool = False, margin: float = 0.0) -> Tensor:
    """The mean over voxels of max(0, margin - det(I + du/dx)), or of its square.

    The determinant has no unit: it is the same in voxels and in mm on any grid.

    Args:
        u: A displacement (b, d, *s), voxels.
        squared: Square what is below.
        margin: Determinants below it count; 0 for folds only.
    """
    below = (margin - jacobian_determinant(u)).clamp(min=0)
    return (below.square() if squared else below).mean()


@full_precision
def inverse_consistency(
    u: Tensor,
    reverse: Tensor,
    *,
    spacing_mm: Sequence[float],
    norm: Literal["l2", "squared"] = "l2",
) -> Tensor:
    """The mean over voxels of the length of u(x) + v(x + u(x)), mm, where x + u(x) is inside.

    Args:
        u: Fixed to moving, (b, d, *s), voxels.
        reverse: v, moving to fixed, on the same grid.
        spacing_mm: Of the grid, one for each axis.
        norm: Euclidean, or its square in mm^2.
    """
    scale = _per_component(spacing_mm, u)
    there_and_back = (compose(reverse, u) * scale).movedim(1, -1)
    inside = _ends_inside(u.detach())
    total = torch.where(inside, length(there_and_back, norm), 0.0).sum()
    return total / inside.sum().clamp(min=1)


def _per_component(values: Sequence[float], u: Tensor) -> Tensor:
    return torch.tensor(values, dtype=u.dtype, device=u.device).reshape(-1, *[1] * len(values))


def _ends_inside(u: Tensor) -> Tensor:
    """Whether x + u(x) lies on the grid, (b, *s)."""
    inside = torch.ones_like(u[:, 0], dtype=torch.bool)
    for axis, count in enumerate(u.shape[2:]):
        shape = [1] * (u.ndim - 2)
        shape[axis] = -1
        place = torch.arange(count, device=u.device).reshape(shape) + u[:, axis]
        inside &= (place >= -0.5) & (place <= count - 0.5)
    return inside


Steps = tuple[tuple[tuple[slice, ...], float], ...]


@full_precision
def known_displacement(
    u: Tensor,
    truth: Tensor,
    labels: Tensor,
    *,
    spacing_mm: Sequence[float],
    norm: PointNorm = "l2",
    where: Literal["labels", "everywhere"] = "labels",
) -> Tensor:
    """The mean over voxels of the length of u(x) - truth(x) in mm.

    Voxels whose truth is NaN count nowhere; with no others the result is 0.

    Args:
        u: (b, d, *s), voxels.
        truth: The same.
        labels: (b, l, *s), of the fixed image.
        spacing_mm: Of the grid, one for each axis.
        norm: `l1` sum of absolute components, `l2` Euclidean, `squared` its square, mm^2.
        where: At voxels with a label, or at all.
    """
    known = torch.isfinite(truth).all(dim=1)
    counts = known & (labels > 0).any(dim=1) if where == "labels" else known
    error = (u - torch.where(known[:, None], truth, u)).movedim(1, -1)
    sizes = length(error * error.new_tensor(spacing_mm), norm)
    return torch.where(counts, sizes, 0.0).sum() / counts.sum().clamp(min=1)


@dataclass(frozen=True)
class _Stencil:
    """A difference: coefficients of shifted views, a scale for each component, a weight."""

    steps: Steps
    scale: Sequence[float]
    weight: float = 1.0


def _steps(u: Tensor, taps: dict[int, Taps], interior: bool = False) -> Steps:
    """The views of u that a separable difference adds up, with their coefficients.

    Args:
        u: (b, d, *s).
        taps: By axis.
        interior: Leave out one voxel at each end of the other axes.
    """
    whole: Taps = (0.0, 1.0, 0.0) if interior else (1.0,)
    rows = [taps.get(axis, whole) for axis in range(u.ndim - 2)]
    views = []
    for place in itertools.product(*(range(len(row)) for row in rows)):
        coefficient = 1.0
        cut = [slice(None), slice(None)]
        for row, n, count in zip(rows, place, u.shape[2:], strict=True):
            coefficient *= row[n]
            start = len(row) - 1 - n
            cut.append(slice(start, count - n))
        if coefficient:
            views.append((tuple(cut), coefficient))
    return tuple(views)


def _mean_size(u: Tensor, stencils: Sequence[_Stencil], norm: Norm) -> Tensor:
    found: Tensor = _Differences.apply(u, tuple(stencils), norm)  # type: ignore[no-untyped-call]
    return found


class _Differences(torch.autograd.Function):
    """sum over stencils of weight * mean of |scale * difference| or its square.

    The derivative is made along with the value: two passes over one temporary for each stencil,
    where autograd would keep several.
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor, stencils: tuple[_Stencil, ...], norm: Norm) -> Tensor:
        value = u.new_zeros(())
        slope = torch.zeros_like(u) if ctx.needs_input_grad[0] else None
        for stencil in stencils:
            found = _applied(u, stencil)
            if found.numel() == 0:
                continue
            share = stencil.weight / found.numel()
            size = found.abs().sum() if norm == "l1" else found.square().sum()
            value = value + size * share
            if slope is not None:
                found = found.sign_() if norm == "l1" else found.mul_(2)
                _add_adjoint(slope, found.mul_(share), stencil)
        ctx.save_for_backward(slope)
        return value

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None]:
        (slope,) = ctx.saved_tensors
        return None if slope is None else slope * grad, None, None


def _applied(u: Tensor, stencil: _Stencil) -> Tensor:
    (view, coefficient), *others = stencil.steps
    found = u[view] * coefficient
    for view, coefficient in others:
        found.add_(u[view], alpha=coefficient)
    return found.mul_(_per_component(stencil.scale, u))


def _add_adjoint(slope: Tensor, found: Tensor, stencil: _Stencil) -> None:
    found.mul_(_per_component(stencil.scale, found))
    for view, coefficient in stencil.steps:
        slope[view].add_(found, alpha=coefficient)
