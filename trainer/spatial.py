"""Warp, compose and integrate batches of images and fields, 2-D and 3-D, as the service does.

A field u is (b, d, *s): displacements in voxels, channel 0 along the first axis, pointing from
where a value is wanted to where it is taken. Index 0 is the centre of the first voxel.
A sample is inside when its index is in [-0.5, n - 0.5] along each axis; it is then clamped to
[0, n - 1] and interpolated; else it takes the fill value. That is ITK's rule, and the service's.

On the CPU, float32 goes through threaded kernels (`trainer.kernels`), which are several times
faster than torch's sampling, most of all backwards; everything else, and what is exported or
compiled, through torch.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

from trainer.sampling import MANY_CHANNELS, FeatureWarp, Integrate, Warp, is_for_kernels

Mode = Literal["linear", "nearest"]


def _along(axis: int, count: int, ndim: int, like: Tensor) -> Tensor:
    """0, 1, ... along one axis, to be broadcast; `arange` keeps an exported graph's size free."""
    shape = [1] * ndim
    shape[axis] = -1
    return torch.arange(count, device=like.device).to(like.dtype).reshape(shape)


def warp(values: Tensor, u: Tensor, *, mode: Mode = "linear", fill: float | None = 0.0) -> Tensor:
    """out(x) = values(x + u(x)).

    Half-precision inputs are sampled, and the result given, in float32: a position in half
    precision is off by whole voxels.

    Args:
        values: (b, c, *s); its size may differ from the field's.
        u: (b, d, *t), voxels.
        mode: `linear` has gradients for values and u; `nearest` (halves up, as ITK) for values.
        fill: The value outside; with None the edge's value goes on for ever, as features want it.

    Returns:
        (b, c, *t).

    Raises:
        ValueError: If the field is not one for these values; or if `nearest` is asked for a field
            that wants a gradient: there is none, and training would stand still without a word.
    """
    values, u = _full_precision(values), _full_precision(u)
    if u.shape[:2] != (values.shape[0], values.ndim - 2):
        raise ValueError(f"A field of shape {u.shape} cannot warp values of shape {values.shape}.")
    if mode == "nearest":
        if u.requires_grad and torch.is_grad_enabled():
            raise ValueError("Nearest sampling has no gradient for the field; detach it first.")
        return _nearest(values, u, fill)
    if is_for_kernels(values, u):
        way = Warp if values.shape[1] < MANY_CHANNELS else FeatureWarp
        warped: Tensor = way.apply(values, u, fill)  # type: ignore[no-untyped-call]
        return warped
    return _linear(values, u, fill)


def _full_precision(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _linear(values: Tensor, u: Tensor, fill: float | None) -> Tensor:
    size = values.shape[2:]
    ends, inside = [], torch.ones_like(u[:, 0], dtype=torch.bool)
    for axis, count in enumerate(size):
        index = _along(axis, u.shape[axis + 2], len(size), u) + u[:, axis]
        inside = inside & (index >= -0.5) & (index <= count - 0.5)
        ends.append(index * (2 / max(count - 1, 1)) - 1)
    sampled = F.grid_sample(
        values,
        torch.stack(ends[::-1], dim=-1),
        mode="bilinear",
        padding_mode="border",
        align_corners=True,
    )
    return sampled if fill is None else torch.where(inside[:, None], sampled, fill)


def _nearest(values: Tensor, u: Tensor, fill: float | None) -> Tensor:
    b, c, *size = values.shape
    place = torch.zeros_like(u[:, 0], dtype=torch.int64)
    inside = torch.ones_like(place, dtype=torch.bool)
    for axis, count in enumerate(size):
        index = _along(axis, u.shape[axis + 2], len(size), u) + u[:, axis]
        inside = inside & (index >= -0.5) & (index <= count - 0.5)
        # Clamped first: far away, or not a number, an integer would be anything.
        whole = torch.floor(index.nan_to_num().clamp(0, count - 1) + 0.5).to(torch.int64)
        place = place * count + whole.clamp(0, count - 1)
    flat = place.reshape(b, 1, -1).expand(b, c, -1)
    taken = torch.gather(values.reshape(b, c, -1), 2, flat).reshape(b, c, *u.shape[2:])
    return taken if fill is None else torch.where(inside[:, None], taken, fill)


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """First `inner`, then `outer`: inner(x) + outer(x + inner(x)); `outer` is 0 outside its grid.

    Args:
        outer: (b, d, *s), voxels.
        inner: (b, d, *t), voxels.
    """
    return _full_precision(inner) + warp(outer, inner)


def integrate(velocity: Tensor, steps: int = 7, stride: int = 1) -> Tensor:
    """The displacement after unit time of a stationary velocity, (b, d, *s).

    Scaling and squaring: velocity / 2**steps, composed with itself `steps` times; 0 outside.

    Args:
        velocity: In the voxels of which a cell of its grid has `stride` along each axis; so is
            the result.
        steps: Squarings; 7 keep the first step under half a cell up to 64 cells of motion.
        stride: 1 for a velocity in voxels of its own grid.

    Source: Arsigny et al., A Log-Euclidean Framework for Statistics on Diffeomorphisms, 2006.
    """
    velocity = _full_precision(velocity)
    if is_for_kernels(velocity):
        moved: Tensor = Integrate.apply(velocity, steps, stride)  # type: ignore[no-untyped-call]
        return moved
    field: Tensor = velocity / float(stride * 2**steps)
    for _ in range(steps):
        field = compose(field, field)
    return field * stride


def upsample(field: Tensor, factor: int, size: Sequence[int]) -> Tensor:
    """A field on cells of `factor` voxels, brought to every voxel of the first `size`.

    Linear by physical position: cell c covers voxels factor * c and on, so its centre lies at
    factor * c + (factor - 1) / 2. Beyond the outermost centres the edge's value goes on. The
    values are in full-resolution voxels on both sides, so they are not scaled.

    Args:
        field: (b, d, *cells).
        factor: Voxels of a cell along each axis.
        size: Voxels along each axis; at most factor * cells.
    """
    if factor > 1:
        mode = "trilinear" if field.ndim == 5 else "bilinear"
        field = F.interpolate(field, scale_factor=factor, mode=mode, align_corners=False)
    for axis, count in enumerate(size):
        field = field.narrow(axis + 2, 0, count)
    return field


def jacobian_determinant(u: Tensor) -> Tensor:
    """det(I + du/dx) at every voxel, (b, *s), of a field (b, d, *s) in voxels.

    Central differences, one-sided at the border; an axis of one voxel has no change along it.
    """
    ndim = u.shape[1]
    columns = [_change(u, axis + 2) for axis in range(ndim)]
    rows = [
        [columns[axis][:, part] + float(part == axis) for axis in range(ndim)]
        for part in range(ndim)
    ]
    if ndim == 2:
        (a, b), (c, d) = rows
        return a * d - b * c
    (a, b, c), (d, e, f), (g, h, i) = rows
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


def _change(u: Tensor, axis: int) -> Tensor:
    """du/dx along one axis, per voxel."""
    count = u.shape[axis]
    if count == 1:
        return torch.zeros_like(u)
    step = u.narrow(axis, 1, count - 1) - u.narrow(axis, 0, count - 1)
    first, last = step.narrow(axis, 0, 1), step.narrow(axis, count - 2, 1)
    middle = (step.narrow(axis, 0, count - 2) + step.narrow(axis, 1, count - 2)) / 2
    return torch.cat([first, middle, last], dim=axis)


def affine_displacement(matrix: Tensor, size: Sequence[int]) -> Tensor:
    """u(x) = M (x - c) + t + c - x with c the centre (n - 1) / 2 of the grid.

    Args:
        matrix: (b, d, d + 1): M and, in its last column, t in voxels.
        size: Voxels along each axis.

    Returns:
        (b, d, *size), voxels.
    """
    ndim = len(size)
    matrix = _full_precision(matrix)
    shape = (-1, ndim, *(1,) * ndim)
    field = matrix[:, :, ndim].reshape(shape)
    change = matrix[:, :, :ndim] - torch.eye(ndim, dtype=matrix.dtype, device=matrix.device)
    for axis, count in enumerate(size):
        offset = _along(axis, count, ndim, matrix) - (count - 1) / 2
        field = field + change[:, :, axis].reshape(shape) * offset
    return field
