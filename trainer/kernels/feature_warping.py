"""Warp of many channels at once, forwards and backwards; float32, channels last.

values are (b, i, j, k, c), a field is (b, 3, p, q, r) in voxels. The rules are those of `warping`,
which is faster for few channels: here a voxel's channels lie side by side and fill SIMD registers,
and a position is looked up once for all of them.
"""

import numba
import numpy as np
from numba import prange

from service.registration.kernels.launch import device, kernel
from service.registration.kernels.sampling import clamped
from trainer.kernels.warping import steps_of

ZERO, ONE = np.float32(0.0), np.float32(1.0)

# A sum over channels may be taken in any order, or it would be taken one by one.
_summing = numba.njit(
    nogil=True, error_model="numpy", fastmath={"contract", "nsz", "arcp", "reassoc"}
)


@device
def _split(position, count):
    """Where it is clamped to; the lower voxel; the upper one's share; 1 if free to move."""
    last = np.float32(count - 1)
    at = clamped(position, last)
    lower = min(np.int64(at), max(count - 2, 0))
    free = ONE if (position > ZERO) & (position < last) else ZERO
    return at, lower, at - np.float32(lower), free


@device
def _place(field, voxel, shape, margin):
    """The lower corner in memory, shares of the upper ones, free axes, and whether inside."""
    n, p, q, r = voxel
    ni, nj, nk = shape
    x, y = np.float32(p) + field[n, 0, p, q, r], np.float32(q) + field[n, 1, p, q, r]
    z = np.float32(r) + field[n, 2, p, q, r]
    a, i, wi, fi = _split(x, ni)
    b, j, wj, fj = _split(y, nj)
    c, k, wk, fk = _split(z, nk)
    near = (abs(x - a) <= margin) & (abs(y - b) <= margin) & (abs(z - c) <= margin)
    return (i * nj + j) * nk + k, (wi, wj, wk), (fi, fj, fk), near


@device
def _weights(shares):
    """Of the corners 000, 001, 010, ... 111 along i, j and k."""
    wi, wj, wk = shares
    vi, vj, vk = ONE - wi, ONE - wj, ONE - wk
    a, b, c, d = vi * vj, vi * wj, wi * vj, wi * wj
    return a * vk, a * wk, b * vk, b * wk, c * vk, c * wk, d * vk, d * wk


@device
def _blend(line, n, steps, weights, out):
    di, dj, dk = steps
    a, b, c, d = line[n], line[n + dk], line[n + dj], line[n + dj + dk]
    m = n + di
    e, f, g, h = line[m], line[m + dk], line[m + dj], line[m + dj + dk]
    p, q, r, s, t, u, v, w = weights
    for x in range(out.size):
        low = p * a[x] + q * b[x] + r * c[x] + s * d[x]
        out[x] = low + (t * e[x] + u * f[x] + v * g[x] + w * h[x])


@kernel
def pull(values, field, fill, margin, out):
    """out(x) = values(x + u(x)), linear; out is (b, p, q, r, c)."""
    batch, slabs, rows, length, channels = out.shape
    shape = values.shape[1:4]
    steps = steps_of(shape)
    for slab in prange(batch * slabs):
        n, p = np.int64(slab) // slabs, np.int64(slab) % slabs
        line = values[n].reshape(-1, channels)
        for q in range(rows):
            for r in range(length):
                at, shares, _, near = _place(field, (n, p, q, r), shape, margin)
                if near:
                    _blend(line, at, steps, _weights(shares), out[n, p, q, r])
                else:
                    out[n, p, q, r] = fill


@_summing
def _dot(line, n, grad):
    total = ZERO
    for c in range(grad.size):
        total += line[n, c] * grad[c]
    return total


@device
def _slopes(line, n, steps, shares, grad):
    """d (grad . values) / d index, along i, j and k."""
    di, dj, dk = steps
    wi, wj, wk = shares
    a0, a1 = _dot(line, n, grad), _dot(line, n + dj, grad)
    b0, b1 = _dot(line, n + di, grad), _dot(line, n + di + dj, grad)
    ak0, ak1 = _dot(line, n + dk, grad) - a0, _dot(line, n + dj + dk, grad) - a1
    bk0, bk1 = _dot(line, n + di + dk, grad) - b0, _dot(line, n + di + dj + dk, grad) - b1
    a0, a1, b0, b1 = a0 + wk * ak0, a1 + wk * ak1, b0 + wk * bk0, b1 + wk * bk1
    along_i = (b0 + wj * (b1 - b0)) - (a0 + wj * (a1 - a0))
    along_j = (a1 - a0) + wi * ((b1 - b0) - (a1 - a0))
    k0, k1 = ak0 + wj * (ak1 - ak0), bk0 + wj * (bk1 - bk0)
    return along_i, along_j, k0 + wi * (k1 - k0)


@kernel
def slope(values, field, margin, grad, out):
    """The gradient for the field, (b, 3, p, q, r)."""
    batch, slabs, rows, length, channels = grad.shape
    shape = values.shape[1:4]
    steps = steps_of(shape)
    for slab in prange(batch * slabs):
        n, p = np.int64(slab) // slabs, np.int64(slab) % slabs
        line = values[n].reshape(-1, channels)
        for q in range(rows):
            for r in range(length):
                at, shares, free, near = _place(field, (n, p, q, r), shape, margin)
                kept = ONE if near else ZERO
                found = _slopes(line, at, steps, shares, grad[n, p, q, r])
                out[n, 0, p, q, r] = kept * free[0] * found[0]
                out[n, 1, p, q, r] = kept * free[1] * found[1]
                out[n, 2, p, q, r] = kept * free[2] * found[2]


@device
def _add(target, weight, grad):
    for c in range(grad.size):
        target[c] += weight * grad[c]


@device
def _push(line, n, steps, weights, grad):
    di, dj, dk = steps
    _add(line[n], weights[0], grad)
    _add(line[n + dk], weights[1], grad)
    _add(line[n + dj], weights[2], grad)
    _add(line[n + dj + dk], weights[3], grad)
    _add(line[n + di], weights[4], grad)
    _add(line[n + di + dk], weights[5], grad)
    _add(line[n + di + dj], weights[6], grad)
    _add(line[n + di + dj + dk], weights[7], grad)


@kernel
def push(grad, field, shape, margin, parts, room):
    """The gradient for the values, each part's into planes of its own.

    Args:
        grad: (b, p, q, r, c).
        field: (b, 3, p, q, r).
        shape: Of the values, (i, j, k).
        margin: As in `warping`.
        parts: (n, 6) int64: batch, first and end slab, first and end plane, where it starts in
            `room`.
        room: (voxels, c), zeros.
    """
    rows, length, steps = grad.shape[2], grad.shape[3], steps_of(shape)
    for part in prange(parts.shape[0]):
        n, first, end, lower, upper, start = parts[part]
        plane = shape[1] * shape[2]
        own = room[start : start + (upper - lower) * plane]
        for p in range(first, end):
            for q in range(rows):
                for r in range(length):
                    at, shares, _, near = _place(field, (n, p, q, r), shape, margin)
                    if near:
                        weights = _weights(shares)
                        _push(own, at - lower * plane, steps, weights, grad[n, p, q, r])


@kernel
def gather(parts, room, out):
    """Sum over the parts, always in the same order; out is (b, i, j * k, c)."""
    batch, planes, plane, _ = out.shape
    for at in prange(batch * planes):
        n, i = np.int64(at) // planes, np.int64(at) % planes
        out[n, i] = ZERO
        for part in range(parts.shape[0]):
            m, _, _, lower, upper, start = parts[part]
            if m == n and lower <= i < upper:
                begin = start + (i - lower) * plane
                for k in range(plane):
                    _add(out[n, i, k], ONE, room[begin + k])
