"""The backward pass of composing a displacement field with itself.

Fields are (b, i, j, k, 4) float32 in voxels, the fourth entry 0, as in the service's `square`: a
vector is then one SIMD load. With y = x + u(x), out(x) = u(x) + u(y), linear; u is 0 outside.
"""

import numpy as np
from numba import prange

from service.registration.kernels.launch import device, kernel
from service.registration.kernels.sampling import clamped

ZERO, HALF, ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)


@device
def _locate(field, i, j, corner, places):
    """Of a row: lower corners; shares of the upper ones; 1 where inside; 1 where free to move."""
    ni, nj, nk = field.shape[0], field.shape[1], field.shape[2]
    li, lj, lk = np.float32(ni - 1), np.float32(nj - 1), np.float32(nk - 1)
    ti, tj, tk = np.int32(max(ni - 2, 0)), np.int32(max(nj - 2, 0)), np.int32(max(nk - 2, 0))
    for k in range(nk):
        x, y = np.float32(i) + field[i, j, k, 0], np.float32(j) + field[i, j, k, 1]
        z = np.float32(np.int32(k)) + field[i, j, k, 2]
        a, b, c = clamped(x, li), clamped(y, lj), clamped(z, lk)
        near = (abs(x - a) <= HALF) & (abs(y - b) <= HALF) & (abs(z - c) <= HALF)
        ia, ib, ic = min(np.int32(a), ti), min(np.int32(b), tj), min(np.int32(c), tk)
        places[0, k], places[1, k] = a - np.float32(ia), b - np.float32(ib)
        places[2, k], places[3, k] = c - np.float32(ic), ONE if near else ZERO
        places[4, k] = ONE if (x > ZERO) & (x < li) else ZERO
        places[5, k] = ONE if (y > ZERO) & (y < lj) else ZERO
        places[6, k] = ONE if (z > ZERO) & (z < lk) else ZERO
        corner[k] = np.int32(np.int32(ia * np.int32(nj)) + ib) * np.int32(nk) + ic


@device
def _dot(line, n, g):
    return line[n, 0] * g[0] + line[n, 1] * g[1] + line[n, 2] * g[2]


@device
def _add(line, n, g, weight):
    line[n, 0] += weight * g[0]
    line[n, 1] += weight * g[1]
    line[n, 2] += weight * g[2]
    line[n, 3] += weight * g[3]


@device
def _slopes(line, n, steps, g, shares):
    """d (g . u) / d index, along i, j and k."""
    di, dj, dk = steps
    wi, wj, wk = shares
    a0, a1 = _dot(line, n, g), _dot(line, n + dj, g)
    b0, b1 = _dot(line, n + di, g), _dot(line, n + di + dj, g)
    ak0, ak1 = _dot(line, n + dk, g) - a0, _dot(line, n + dj + dk, g) - a1
    bk0, bk1 = _dot(line, n + di + dk, g) - b0, _dot(line, n + di + dj + dk, g) - b1
    a0, a1, b0, b1 = a0 + wk * ak0, a1 + wk * ak1, b0 + wk * bk0, b1 + wk * bk1
    along_i = (b0 + wj * (b1 - b0)) - (a0 + wj * (a1 - a0))
    along_j = (a1 - a0) + wi * ((b1 - b0) - (a1 - a0))
    k0, k1 = ak0 + wj * (ak1 - ak0), bk0 + wj * (bk1 - bk0)
    return along_i, along_j, k0 + wi * (k1 - k0)


@device
def _push(line, n, steps, g, shares):
    di, dj, dk = steps
    wi, wj, wk = shares
    vi, vj, vk = ONE - wi, ONE - wj, ONE - wk
    _add(line, n, g, vi * vj * vk)
    _add(line, n + dk, g, vi * vj * wk)
    _add(line, n + dj, g, vi * wj * vk)
    _add(line, n + dj + dk, g, vi * wj * wk)
    _add(line, n + di, g, wi * vj * vk)
    _add(line, n + di + dk, g, wi * vj * wk)
    _add(line, n + di + dj, g, wi * wj * vk)
    _add(line, n + di + dj + dk, g, wi * wj * wk)


@device
def _row(field, line, grad, row, workspace, room):
    """One row's own gradient, in place of what came, and its parts for the corners."""
    i, j, base = row
    corner, places = workspace
    ni, nj, nk = field.shape[0], field.shape[1], field.shape[2]
    steps = (nj * nk if ni > 1 else 0), (nk if nj > 1 else 0), (1 if nk > 1 else 0)
    for k in range(nk):
        kept, n = places[3, k], np.int64(corner[k])
        g = (
            kept * grad[i, j, k, 0],
            kept * grad[i, j, k, 1],
            kept * grad[i, j, k, 2],
            kept * grad[i, j, k, 3],
        )
        shares = places[0, k], places[1, k], places[2, k]
        along_i, along_j, along_k = _slopes(line, n, steps, g, shares)
        _push(room, n - base, steps, g, shares)
        grad[i, j, k, 0] += places[4, k] * along_i
        grad[i, j, k, 1] += places[5, k] * along_j
        grad[i, j, k, 2] += places[6, k] * along_k


@kernel
def reach(fields, low, high):
    """low[b, i], high[b, i]: the first and last plane that plane i draws on."""
    batch, ni, nj, nk, _ = fields.shape
    last = np.float32(ni - 1)
    for at in prange(batch * ni):
        n, i = np.int64(at) // ni, np.int64(at) % ni
        least, most = last, ZERO
        for j in range(nj):
            for k in range(nk):
                x = clamped(np.float32(i) + fields[n, i, j, k, 0], last)
                least, most = min(least, x), max(most, x)
        low[n, i] = min(np.int64(least), max(ni - 2, 0))
        high[n, i] = min(np.int64(most) + 1, ni - 1)


@kernel
def square_backwards(fields, grads, parts, room):
    """grads, in place: what each voxel has as x; room: what it has as a neighbour of some y.

    Args:
        fields: u, (b, i, j, k, 4).
        grads: Of the loss for out.
        parts: (n, 6) int64: batch, first and end plane, first and end plane that they draw on,
            where the part starts in `room`.
        room: (vectors, 4), zeros.
    """
    nj, nk = fields.shape[2], fields.shape[3]
    for part in prange(parts.shape[0]):
        n, first, end, lower, upper, start = parts[part]
        field, grad = fields[n], grads[n]
        line = field.reshape(-1, 4)
        own = room[start : start + (upper - lower) * nj * nk]
        corner, places = np.empty(nk, np.int32), np.empty((7, nk), np.float32)
        for i in range(first, end):
            for j in range(nj):
                _locate(field, i, j, corner, places)
                _row(field, line, grad, (i, j, lower * nj * nk), (corner, places), own)


@kernel
def gather(parts, room, grads):
    """Add the parts to grads, (b, i, j * k, 4), always in the same order."""
    batch, ni, plane, _ = grads.shape
    for at in prange(batch * ni):
        n, i = np.int64(at) // ni, np.int64(at) % ni
        for part in range(parts.shape[0]):
            m, _, _, lower, upper, start = parts[part]
            if m == n and lower <= i < upper:
                begin = start + (i - lower) * plane
                for k in range(plane):
                    for c in range(4):
                        grads[n, i, k, c] += room[begin + k, c]
