"""Leaky ReLU and the maximum of cells of 2**3 voxels in one pass, forwards and backwards.

Values are (n, i, j, k) with even sizes, float32; a 2-D image (n, j, k) has cells of 2**2 voxels.
Rectifying does not change which of a cell's voxels is the largest: the first one in memory, or NaN.
"""

import numpy as np
from numba import prange

from service.registration.kernels.launch import device, kernel

ZERO = np.float32(0.0)


@device
def _largest(a, b, place, out, which):
    """The largest of 2**2 voxels in two rows, and which: place + 0, 1 in a, + 2, 3 in b."""
    for k in range(out.size):
        p, q, r, s = a[2 * k], a[2 * k + 1], b[2 * k], b[2 * k + 1]
        second, fourth = (q > p) | np.isnan(q), (s > r) | np.isnan(s)
        left, right = (q if second else p), (s if fourth else r)
        one, two = np.uint8(1 if second else 0), np.uint8(3 if fourth else 2)
        lower = (right > left) | np.isnan(right)
        out[k] = right if lower else left
        which[k] = place + (two if lower else one)


@device
def _rectify(row, slope):
    for k in range(row.size):
        row[k] = row[k] if row[k] > ZERO else row[k] * slope


@kernel
def pool(values, slope, pooled, which):
    """pooled = leaky(max of each cell); which = the voxel, 0 to 7, i slowest, that has it."""
    n, pi, pj, pk = pooled.shape
    depth = values.shape[1] // pi
    for part in prange(n * pi):
        m, i = np.int64(part) // pi, np.int64(part) % pi
        other, there = np.empty(pk, np.float32), np.empty(pk, np.uint8)
        for j in range(pj):
            best, at = pooled[m, i, j], which[m, i, j]
            x = values[m, depth * i]
            _largest(x[2 * j], x[2 * j + 1], np.uint8(0), best, at)
            if depth == 2:
                x = values[m, 2 * i + 1]
                _largest(x[2 * j], x[2 * j + 1], np.uint8(4), other, there)
                for k in range(pk):
                    if other[k] > best[k] or np.isnan(other[k]):
                        best[k], at[k] = other[k], there[k]
            _rectify(best, slope)


@kernel
def rectify(values, slope, out):
    """out = values, times slope where they are negative; rows (n, k)."""
    for part in prange(values.shape[0]):
        row, source = out[part], values[part]
        for k in range(row.size):
            row[k] = source[k] if source[k] > ZERO else source[k] * slope


@device
def _spread(grad, pooled, which, slope, place, out):
    """out = what of a row of cells' gradients belongs to the voxels at `place` and `place` + 1."""
    for k in range(grad.size):
        g = grad[k] if pooled[k] > ZERO else grad[k] * slope
        out[2 * k] = g if which[k] == place else ZERO
        out[2 * k + 1] = g if which[k] == place + 1 else ZERO


@device
def _add_other(out, values, other, slope):
    """Add a gradient of the rectified values themselves."""
    for k in range(out.size):
        out[k] += other[k] if values[k] > ZERO else other[k] * slope


@kernel
def pool_backward(grad, cells, other, slope, out):
    """out = the gradient by the values, before they are rectified.

    Args:
        grad: By the pooled values.
        cells: (pooled, which) as `pool` gave them.
        other: (gradient by the rectified values, those values), or both of no elements.
        slope: Of the negative side.
        out: Like the values.
    """
    pooled, which = cells
    by_values, values = other
    n, pi, pj, _ = pooled.shape
    depth = out.shape[1] // pi
    for part in prange(n * pi):
        m, i = np.int64(part) // pi, np.int64(part) % pi
        for j in range(pj):
            g, top, at = grad[m, i, j], pooled[m, i, j], which[m, i, j]
            for step in range(2 * depth):
                p, q = depth * i + step // 2, 2 * j + step % 2
                row = out[m, p, q]
                _spread(g, top, at, slope, np.uint8(2 * step), row)
                if by_values.size > 0:
                    _add_other(row, values[m, p, q], by_values[m, p, q], slope)
