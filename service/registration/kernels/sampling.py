"""Where a sample lies between voxels, and what it is there: what several kernels do alike.

Inside means an index in [-0.5, n - 0.5] along each axis, as ITK has it; it is then clamped to
[0, n - 1]. Functions that take `corners` read vectors of four numbers, (i, j, k, 4), of which each
is then one SIMD load.
"""

import numpy as np

from service.registration.kernels.launch import device

ZERO, HALF = np.float32(0.0), np.float32(0.5)
NEXT = np.uint64(1)
SIZE_BITS, INFINITE = np.int32(0x7FFFFFFF), np.int32(0x7F800000)  # of a float32


@device
def clamped(position, last):
    """A position within [0, last], NaN as 0; written so that it becomes two instructions."""
    position = position if position > ZERO else ZERO
    return position if position < last else last


@device
def is_finite(line):
    """Whether every number of a float32 line is, told by their exponents: SIMD takes integers."""
    bits, most = line.view(np.int32), np.int32(0)
    for n in range(bits.size):
        size = np.int32(bits[n] & SIZE_BITS)
        most = size if size > most else most
    return most < INFINITE


@device
def is_inside(i, j, k, shape):
    """Whether an index is; NaN is not."""
    return (
        (i >= -HALF)
        & (i <= np.float32(shape[0]) - HALF)
        & (j >= -HALF)
        & (j <= np.float32(shape[1]) - HALF)
        & (k >= -HALF)
        & (k <= np.float32(shape[2]) - HALF)
    )


@device
def bracket(position, count):
    """The voxel at or below a clamped position, the next one, and the share of the next one."""
    position = min(max(position, 0.0), count - 1.0)
    lower = min(int(position), max(count - 2, 0))
    return lower, min(lower + 1, count - 1), np.float32(position - lower)


@device
def between(first, second, share):
    """Linear interpolation that is exact at both ends."""
    return (first - share * first) + share * second


@device
def lower_corners(moving):
    """The volume as one line, from each of a cell's four lower corners on; flat axes have two.

    A volume one voxel thick along k gets one more at its end, so that each has a next one.
    """
    line, nk, slab = moving.ravel(), moving.shape[2], moving.shape[1] * moving.shape[2]
    if nk == 1:
        longer = np.empty(line.size + 1, line.dtype)
        longer[:-1], longer[-1] = line, line[-1]
        line = longer
    i = slab if moving.shape[0] > 1 else 0
    j = nk if moving.shape[1] > 1 else 0
    return line, line[j:], line[i:], line[i + j :]


@device
def linear_row(corners, corner, shares, row):
    """Trilinear values of a row; along k last, so that neighbours are loaded in pairs."""
    p00, p01, p10, p11 = corners
    out, i, j = row
    for k in range(out.shape[2]):
        n, wi, wj = np.uint64(corner[k]), shares[0, k], shares[1, k]
        m = n + NEXT
        a0, a1 = between(p00[n], p01[n], wj), between(p00[m], p01[m], wj)
        b0, b1 = between(p10[n], p11[n], wj), between(p10[m], p11[m], wj)
        a0, a1 = between(a0, b0, wi), between(a1, b1, wi)
        out[i, j, k] = between(a0, a1, shares[2, k])


@device
def corners_of(field):
    """A field (i, j, k, 4) as one line of vectors, from each of a cell's eight corners on."""
    ni, nj, nk, _ = field.shape
    line = field.reshape(ni * nj * nk, 4)
    i, j, k = (nj * nk if ni > 1 else 0), (nk if nj > 1 else 0), (1 if nk > 1 else 0)
    upper = line[i:]
    return line, line[k:], line[j:], line[j + k :], upper, upper[k:], upper[j:], upper[j + k :]


@device
def blend(corners, n, c, shares):
    """Component c between the eight corners of the cell that begins at entry n."""
    p000, p001, p010, p011, p100, p101, p110, p111 = corners
    wi, wj, wk = shares
    a = p000[n, c] + wk * (p001[n, c] - p000[n, c])
    b = p010[n, c] + wk * (p011[n, c] - p010[n, c])
    d = p100[n, c] + wk * (p101[n, c] - p100[n, c])
    e = p110[n, c] + wk * (p111[n, c] - p110[n, c])
    a += wj * (b - a)
    d += wj * (e - d)
    return a + wi * (d - a)
