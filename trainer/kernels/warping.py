"""Warp by a field, forwards and backwards; float32, channels first.

values are (b, c, i, j, k), a field is (b, 3, p, q, r) in voxels; a 2-D image has one voxel along i.
A sample is inside when its index is within `margin` of [0, n - 1] along each axis; it is then
clamped to that; else, and when the index is NaN, it counts as the fill value, with no gradient.
Along an axis where the index is at or beyond the outermost voxel centre the field has no gradient,
as in torch's `grid_sample`.
"""

import numpy as np
from numba import prange

from service.registration.kernels.launch import device, kernel
from service.registration.kernels.sampling import clamped

ZERO, ONE = np.float32(0.0), np.float32(1.0)


@device
def _locate(field, row, shape, margin, places):
    """For each voxel of a row: the lower corner in memory, shares, and 1 if it is inside."""
    n, p, q = row
    ni, nj, nk = shape
    corner, shares = places
    li, lj, lk = np.float32(ni - 1), np.float32(nj - 1), np.float32(nk - 1)
    ti, tj, tk = np.int32(max(ni - 2, 0)), np.int32(max(nj - 2, 0)), np.int32(max(nk - 2, 0))
    si, sj = np.int32(nj * nk), np.int32(nk)
    ui, uj, uk = field[n, 0, p, q], field[n, 1, p, q], field[n, 2, p, q]
    for k in range(ui.size):
        x, y, z = np.float32(p) + ui[k], np.float32(q) + uj[k], np.float32(np.int32(k)) + uk[k]
        a, b, c = clamped(x, li), clamped(y, lj), clamped(z, lk)
        near = (abs(x - a) <= margin) & (abs(y - b) <= margin) & (abs(z - c) <= margin)
        ia, ib, ic = min(np.int32(a), ti), min(np.int32(b), tj), min(np.int32(c), tk)
        shares[0, k], shares[1, k] = a - np.float32(ia), b - np.float32(ib)
        shares[2, k] = c - np.float32(ic)
        shares[3, k] = ONE if near else ZERO
        corner[k] = np.int32(np.int32(ia * si) + np.int32(ib * sj)) + ic


@device
def _free(field, row, shape, free):
    """1 along each axis where a sample may move both ways, else 0: (3, r)."""
    n, p, q = row
    for k in range(free.shape[1]):
        x = np.float32(p) + field[n, 0, p, q, k]
        y = np.float32(q) + field[n, 1, p, q, k]
        z = np.float32(np.int32(k)) + field[n, 2, p, q, k]
        free[0, k] = ONE if (x > ZERO) & (x < np.float32(shape[0] - 1)) else ZERO
        free[1, k] = ONE if (y > ZERO) & (y < np.float32(shape[1] - 1)) else ZERO
        free[2, k] = ONE if (z > ZERO) & (z < np.float32(shape[2] - 1)) else ZERO


@device
def steps_of(shape):
    """From a cell's lower corner to the next one along each axis; flat axes have none."""
    ni, nj, nk = shape
    return (nj * nk if ni > 1 else 0), (nk if nj > 1 else 0), (1 if nk > 1 else 0)


@device
def _pull_row(line, steps, places, fill, out):
    corner, shares = places
    di, dj, dk = steps
    p00, p01, p10, p11 = line, line[dj:], line[di:], line[di + dj :]
    for k in range(out.size):
        m = corner[k]
        wi, wj, wk = shares[0, k], shares[1, k], shares[2, k]
        a0 = p00[m] + wj * (p01[m] - p00[m])
        a1 = p00[m + dk] + wj * (p01[m + dk] - p00[m + dk])
        b0 = p10[m] + wj * (p11[m] - p10[m])
        b1 = p10[m + dk] + wj * (p11[m + dk] - p10[m + dk])
        a0 += wi * (b0 - a0)
        a1 += wi * (b1 - a1)
        value = a0 + wk * (a1 - a0)
        out[k] = value if shares[3, k] > ZERO else fill


@kernel
def pull(values, field, fill, margin, out):
    """out(x) = values(x + u(x)), linear."""
    batch, channels, shape = values.shape[0], values.shape[1], values.shape[2:]
    slabs, rows, length = out.shape[2], out.shape[3], out.shape[4]
    for slab in prange(batch * slabs):
        n, p = np.int64(slab) // slabs, np.int64(slab) % slabs
        places = np.empty(length, np.int32), np.empty((4, length), np.float32)
        for q in range(rows):
            _locate(field, (n, p, q), shape, margin, places)
            for c in range(channels):
                line = values[n, c].reshape(-1)
                _pull_row(line, steps_of(shape), places, fill, out[n, c, p, q])


@device
def _slope_row(line, steps, places, grad, slope):
    """Add grad * d values / d index to `slope`, (3, r)."""
    corner, shares = places
    di, dj, dk = steps
    p00, p01, p10, p11 = line, line[dj:], line[di:], line[di + dj :]
    for k in range(grad.size):
        m = corner[k]
        wi, wj, wk = shares[0, k], shares[1, k], shares[2, k]
        a0, a1, b0, b1 = p00[m], p01[m], p10[m], p11[m]
        ak0, ak1, bk0, bk1 = p00[m + dk] - a0, p01[m + dk] - a1, p10[m + dk] - b0, p11[m + dk] - b1
        e00, e01, e10, e11 = a0 + wk * ak0, a1 + wk * ak1, b0 + wk * bk0, b1 + wk * bk1
        f0, f1 = e00 + wj * (e01 - e00), e10 + wj * (e11 - e10)
        g = grad[k] * shares[3, k]
        slope[0, k] += g * (f1 - f0)
        s0, s1 = e01 - e00, e11 - e10
        slope[1, k] += g * (s0 + wi * (s1 - s0))
        t0, t1 = ak0 + wj * (ak1 - ak0), bk0 + wj * (bk1 - bk0)
        slope[2, k] += g * (t0 + wi * (t1 - t0))


@kernel
def slope(values, field, margin, grad, out):
    """The gradient for the field: sum over channels of grad * d values / d index."""
    batch, channels, shape = values.shape[0], values.shape[1], values.shape[2:]
    slabs, rows, length = grad.shape[2], grad.shape[3], grad.shape[4]
    for slab in prange(batch * slabs):
        n, p = np.int64(slab) // slabs, np.int64(slab) % slabs
        places = np.empty(length, np.int32), np.empty((4, length), np.float32)
        free, total = np.empty((3, length), np.float32), np.empty((3, length), np.float32)
        for q in range(rows):
            _locate(field, (n, p, q), shape, margin, places)
            _free(field, (n, p, q), shape, free)
            total[:] = ZERO
            for c in range(channels):
                line = values[n, c].reshape(-1)
                _slope_row(line, steps_of(shape), places, grad[n, c, p, q], total)
            for axis in range(3):
                for k in range(length):
                    out[n, axis, p, q, k] = free[axis, k] * total[axis, k]


@kernel
def reach(field, count, low, high):
    """low[b, p], high[b, p]: the first and last plane of `count` that plane p draws on."""
    batch, _, slabs, rows, length = field.shape
    last = np.float32(count - 1)
    for slab in prange(batch * slabs):
        n, p = np.int64(slab) // slabs, np.int64(slab) % slabs
        least, most = last, ZERO
        for q in range(rows):
            for k in range(length):
                x = clamped(np.float32(p) + field[n, 0, p, q, k], last)
                least, most = min(least, x), max(most, x)
        low[n, p] = min(np.int64(least), max(count - 2, 0))
        high[n, p] = min(np.int64(most) + 1, count - 1)


@device
def _push_row(grad, steps, places, base, line):
    """Add each gradient to the eight corners that its value came from."""
    corner, shares = places
    di, dj, dk = steps
    for k in range(grad.size):
        m = np.int64(corner[k]) - base
        wi, wj, wk = shares[0, k], shares[1, k], shares[2, k]
        g = grad[k] * shares[3, k]
        g1 = g * wi
        g0 = g - g1
        g01, g11 = g0 * wj, g1 * wj
        g00, g10 = g0 - g01, g1 - g11
        line[m] += g00 * (ONE - wk)
        line[m + dk] += g00 * wk
        line[m + dj] += g01 * (ONE - wk)
        line[m + dj + dk] += g01 * wk
        line[m + di] += g10 * (ONE - wk)
        line[m + di + dk] += g10 * wk
        line[m + di + dj] += g11 * (ONE - wk)
        line[m + di + dj + dk] += g11 * wk


@kernel
def push(grad, field, shape, margin, parts, room):
    """The gradient for the values, each part's into planes of its own.

    Args:
        grad: (b, c, p, q, r).
        field: (b, 3, p, q, r).
        shape: Of the values, (i, j, k).
        margin: As above.
        parts: (n, 6) int64: batch, first and end slab, first and end plane, where it starts in
            `room`; each part has c * planes * j * k there.
        room: Zeros.
    """
    channels, rows, length = grad.shape[1], grad.shape[3], grad.shape[4]
    plane = shape[1] * shape[2]
    for part in prange(parts.shape[0]):
        n, first, end, lower, upper, start = parts[part]
        places = np.empty(length, np.int32), np.empty((4, length), np.float32)
        size = (upper - lower) * plane
        for p in range(first, end):
            for q in range(rows):
                _locate(field, (n, p, q), shape, margin, places)
                for c in range(channels):
                    line = room[start + c * size : start + (c + 1) * size]
                    _push_row(grad[n, c, p, q], steps_of(shape), places, lower * plane, line)


@kernel
def gather(parts, room, out):
    """Sum over the parts, always in the same order; out is (b, c, i, j * k)."""
    batch, channels, planes, plane = out.shape
    for at in prange(batch * planes):
        n, i = np.int64(at) // planes, np.int64(at) % planes
        out[n, :, i] = ZERO
        for part in range(parts.shape[0]):
            m, _, _, lower, upper, start = parts[part]
            if m == n and lower <= i < upper:
                size = (upper - lower) * plane
                for c in range(channels):
                    begin = start + c * size + (i - lower) * plane
                    for k in range(plane):
                        out[n, c, i, k] += room[begin + k]
