"""Label maps and maps between them, in one pass over the voxels each; float32.

A voxel x goes to A(x + e(x)): e is (3, i, j, k), A is (3, 4) in voxels, its last column the shift.
A 2-D image has one voxel along i.
"""

import numpy as np
from numba import prange

from service.registration.kernels.launch import device, kernel

HALF, ONE = np.float32(0.5), np.float32(1.0)


@device
def _row(e, matrix, p, q, at):
    """A(x + e(x)) along one row: (3, k)."""
    for k in range(at.shape[1]):
        x = np.float32(p) + e[0, p, q, k]
        y = np.float32(q) + e[1, p, q, k]
        z = np.float32(np.int32(k)) + e[2, p, q, k]
        for n in range(3):
            at[n, k] = matrix[n, 0] * x + matrix[n, 1] * y + matrix[n, 2] * z + matrix[n, 3]


@device
def _share(place, count):
    """The lower of two cells, clamped to the grid, and the share of the upper one."""
    place = min(max(place, np.float32(0)), np.float32(count - 1))
    low = min(np.int64(place), max(count - 2, 0))
    return low, place - np.float32(low)


@kernel
def labels_at(labels, e, matrix, out):
    """out(x) = labels at the voxel nearest to A(x + e(x)), halves up; 0 outside."""
    ni, nj, nk = labels.shape
    for p in prange(out.shape[0]):
        at = np.empty((3, out.shape[2]), np.float32)
        for q in range(out.shape[1]):
            _row(e, matrix, p, q, at)
            for k in range(out.shape[2]):
                a = np.int64(np.floor(at[0, k] + HALF))
                b = np.int64(np.floor(at[1, k] + HALF))
                c = np.int64(np.floor(at[2, k] + HALF))
                inside = (a >= 0) & (a < ni) & (b >= 0) & (b < nj) & (c >= 0) & (c < nk)
                out[p, q, k] = labels[a, b, c] if inside else 0


@kernel
def chained(e, matrix, cells, stride, first, out):
    """out(x) = y + back(y) - x with y = A(x + e(x)), linear, the edge's value beyond the cells.

    `cells` (3, a, b, c) hold back, in voxels; along axis n cell m lies at first[n] + stride[n] * m.
    """
    na, nb, nc = cells.shape[1:]
    for p in prange(out.shape[1]):
        at = np.empty((3, out.shape[3]), np.float32)
        for q in range(out.shape[2]):
            _row(e, matrix, p, q, at)
            for k in range(out.shape[3]):
                a, u = _share((at[0, k] - first[0]) / stride[0], na)
                b, v = _share((at[1, k] - first[1]) / stride[1], nb)
                c, w = _share((at[2, k] - first[2]) / stride[2], nc)
                a1, b1, c1 = min(a + 1, na - 1), min(b + 1, nb - 1), min(c + 1, nc - 1)
                for n in range(3):
                    f = cells[n]
                    low = (f[a, b, c] * (ONE - w) + f[a, b, c1] * w) * (ONE - v)
                    low += (f[a, b1, c] * (ONE - w) + f[a, b1, c1] * w) * v
                    high = (f[a1, b, c] * (ONE - w) + f[a1, b, c1] * w) * (ONE - v)
                    high += (f[a1, b1, c] * (ONE - w) + f[a1, b1, c1] * w) * v
                    out[n, p, q, k] = at[n, k] + low * (ONE - u) + high * u
                out[0, p, q, k] -= np.float32(p)
                out[1, p, q, k] -= np.float32(q)
                out[2, p, q, k] -= np.float32(np.int32(k))


@kernel
def largest(fields, out):
    """Which of the (n, rows, m) fields is the largest, from 1 on, (rows, m)."""
    for row in prange(out.shape[0]):
        best = fields[0, row].copy()
        out[row] = 1
        for n in range(1, fields.shape[0]):
            for m in range(best.size):
                wins = fields[n, row, m] > best[m]
                best[m] = fields[n, row, m] if wins else best[m]
                out[row, m] = n + 1 if wins else out[row, m]


@kernel
def coloured(labels, means, spreads, noise):
    """noise <- means[label] + spreads[label] * noise, flat."""
    for part in prange(64):
        count = labels.size
        for m in range(part * count // 64, (part + 1) * count // 64):
            noise[m] = means[labels[m]] + spreads[labels[m]] * noise[m]
