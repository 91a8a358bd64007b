"""`trainer.spatial`'s sampling on the CPU: kernels joined to torch's gradients."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from service.registration.kernels.squaring import square
from trainer.kernels import feature_warping, squaring, warping

# From here on `FeatureWarp` is faster: twice for 16 channels.
MANY_CHANNELS = 12
_MOST_THREADS: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]


def is_for_kernels(*tensors: Tensor) -> bool:
    """Whether the kernels can take these: float32 on the CPU, and nothing is being recorded."""
    if torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export():
        return False
    return all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)


class Warp(torch.autograd.Function):
    """values(x + u(x)), linear; (b, c, *s) and (b, d, *t) to (b, c, *t)."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, u: Tensor, fill: float | None) -> Tensor:
        ctx.save_for_backward(values, u)
        ctx.margin = np.float32(np.inf if fill is None else 0.5)
        out = values.new_empty(*values.shape[:2], *u.shape[2:])
        with torchs_threads():
            warping.pull(
                _solid(values), _solid_field(u), np.float32(fill or 0), ctx.margin, _solid(out)
            )
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        values, u = ctx.saved_tensors
        needs_values, needs_field, _ = ctx.needs_input_grad
        field, given = _solid_field(u), _solid(grad)
        with torchs_threads():
            for_values = _pushed(given, field, values, ctx.margin) if needs_values else None
            for_field = _slope(values, field, ctx.margin, given) if needs_field else None
        return for_values, for_field, None


@contextmanager
def torchs_threads() -> Iterator[None]:
    """Kernels take as many threads as torch does."""
    before = numba.get_num_threads()
    numba.set_num_threads(min(torch.get_num_threads(), _MOST_THREADS))
    try:
        yield
    finally:
        numba.set_num_threads(before)


def _solid(values: Tensor) -> np.ndarray:
    """(b, c, i, j, k) in order in memory; an image of two axes gets one voxel in front."""
    values = values.detach()
    if values.ndim == 4:
        values = values[:, :, None]
    return values.contiguous().numpy()


def _solid_field(u: Tensor) -> np.ndarray:
    if u.ndim == 4:
        u = torch.cat([torch.zeros_like(u[:, :1]), u], dim=1)
    return _solid(u)


def _slope(values: Tensor, field: np.ndarray, margin: np.float32, grad: np.ndarray) -> Tensor:
    out = np.empty(field.shape, np.float32)
    warping.slope(_solid(values), field, margin, grad, out)
    return _without_front(torch.from_numpy(out), values.ndim)


def _without_front(field: Tensor, ndim: int) -> Tensor:
    """(b, 3, i, j, k) as it is, or in 2-D without what was put in front."""
    return field if ndim == 5 else field[:, 1:, 0].contiguous()


def _pushed(grad: np.ndarray, field: np.ndarray, values: Tensor, margin: np.float32) -> Tensor:
    """Parts of the field write to planes of their own, which are then summed: no two collide."""
    solid = values if values.ndim == 5 else values[:, :, None]
    b, c, i, j, k = solid.shape
    low, high = np.empty((2, b, field.shape[2]), np.int64)
    warping.reach(field, i, low, high)
    parts, planes = plan(low, high, c * j * k)
    room = np.zeros(planes, np.float32)
    warping.push(grad, field, (i, j, k), margin, parts, room)
    out = np.empty((b, c, i, j * k), np.float32)
    warping.gather(parts, room, out)
    return torch.from_numpy(out).reshape(values.shape)


class FeatureWarp(torch.autograd.Function):
    """As `Warp`; faster for many channels, most of all where the values want a gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, u: Tensor, fill: float | None) -> Tensor:
        solid = _channels_last(values)
        ctx.margin = np.float32(np.inf if fill is None else 0.5)
        ctx.is_last = _is_channels_last(values)
        ctx.save_for_backward(solid, u)
        field = _solid_field(u)
        out = np.empty((*field.shape[:1], *field.shape[2:], values.shape[1]), np.float32)
        with torchs_threads():
            feature_warping.pull(solid.numpy(), field, np.float32(fill or 0), ctx.margin, out)
        return _channels_first(out, u.ndim, keep=ctx.is_last)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        solid, u = ctx.saved_tensors
        needs_values, needs_field, _ = ctx.needs_input_grad
        values, field, given = solid.numpy(), _solid_field(u), _channels_last(grad).numpy()
        for_values = for_field = None
        with torchs_threads():
            if needs_values:
                pushed = _pushed_features(given, field, values.shape, ctx.margin)
                for_values = _channels_first(pushed, u.ndim, keep=ctx.is_last)
            if needs_field:
                slope = np.empty(field.shape, np.float32)
                feature_warping.slope(values, field, ctx.margin, given, slope)
                for_field = _without_front(torch.from_numpy(slope), u.ndim)
        return for_values, for_field, None


def _channels_last(values: Tensor) -> Tensor:
    """(b, c, *s) to (b, i, j, k, c)."""
    values = torch.movedim(values.detach(), 1, -1)
    return (values if values.ndim == 5 else values[:, None]).contiguous()


def _is_channels_last(values: Tensor) -> bool:
    return torch.movedim(values, 1, -1).is_contiguous()


def _channels_first(values: np.ndarray, ndim: int, *, keep: bool) -> Tensor:
    """(b, i, j, k, c) to (b, c, *s); in memory the order is kept, or that of the axes."""
    found = torch.movedim(torch.from_numpy(values if ndim == 5 else values[:, 0]), -1, 1)
    return found if keep else found.contiguous()


def _pushed_features(
    grad: np.ndarray, field: np.ndarray, shape: tuple[int, ...], margin: np.float32
) -> np.ndarray:
    b, i, j, k, c = shape
    low, high = np.empty((2, b, field.shape[2]), np.int64)
    warping.reach(field, i, low, high)
    parts, size = plan(low, high, j * k)
    room = np.zeros((size, c), np.float32)
    feature_warping.push(grad, field, (i, j, k), margin, parts, room)
    out = np.empty((b, i, j * k, c), np.float32)
    feature_warping.gather(parts, room, out)
    return out.reshape(shape)


class Integrate(torch.autograd.Function):
    """Scaling and squaring of (b, d, *s); a cell has `stride` of the units along each axis."""

    @staticmethod
    def forward(ctx: Any, velocity: Tensor, steps: int, stride: int) -> Tensor:
        fields = [_vectors(velocity, 2.0**-steps / stride)]
        with torchs_threads():
            for _ in range(steps):
                fields.append(np.empty_like(fields[-1]))
                for one, squared in zip(*fields[-2:], strict=True):
                    square(one, squared)
        ctx.save_for_backward(*(torch.from_numpy(field) for field in fields[:-1]))
        return _components(fields[-1], velocity).mul_(stride)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        passed = _vectors(grad, 1.0)
        with torchs_threads():
            for field in reversed(ctx.saved_tensors):
                _square_backwards(field.numpy(), passed)
        return _components(passed, grad).mul_(2.0 ** -len(ctx.saved_tensors)), None, None


def _vectors(field: Tensor, scale: float) -> np.ndarray:
    """(b, d, *s) to (b, i, j, k, 4): what is not there is 0."""
    b, d, *size = field.shape
    vectors = field.new_zeros(b, *size, 4)
    vectors[..., 3 - d : 3] = torch.movedim(field.detach(), 1, -1)
    return vectors.mul_(scale).reshape(b, *(1,) * (3 - d), *size, 4).numpy()


def _components(vectors: np.ndarray, like: Tensor) -> Tensor:
    """(b, i, j, k, 4) to (b, d, *s)."""
    b, d, *size = like.shape
    field = torch.from_numpy(vectors).reshape(b, *size, 4)[..., 3 - d : 3]
    return torch.movedim(field, -1, 1).contiguous()


def _square_backwards(fields: np.ndarray, grads: np.ndarray) -> None:
    b, i, j, k, _ = fields.shape
    low, high = np.empty((2, b, i), np.int64)
    squaring.reach(fields, low, high)
    parts, size = plan(low, high, j * k)
    room = np.zeros((size, 4), np.float32)
    squaring.square_backwards(fields, grads, parts, room)
    squaring.gather(parts, room, grads.reshape(b, i, j * k, 4))


def plan(low: np.ndarray, high: np.ndarray, plane: int) -> tuple[np.ndarray, int]:
    """Slabs for each part of the work, the planes that they draw on, and the room for all.

    Args:
        low: (b, slabs): the first plane that a slab draws on.
        high: The last one.
        plane: Room for a plane.

    Returns:
        (n, 6): batch, first and end slab, first and end plane, where its room starts; all room.
    """
    b, slabs = low.shape
    count = min(slabs, max(1, 2 * numba.get_num_threads() // b))
    rows, start = [], 0
    for n in range(b):
        for part in range(count):
            first, end = part * slabs // count, (part + 1) * slabs // count
            lower, upper = int(low[n, first:end].min()), int(high[n, first:end].max()) + 1
            rows.append((n, first, end, lower, upper, start))
            start += (upper - lower) * plane
    return np.array(rows, np.int64), start
