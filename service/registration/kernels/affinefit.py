"""How well an affine aligns two volumes by local correlation, and which way to better it.

The measure is that of `kernels.descent`, summed over the fixed mask: a voxel that the affine sends
out of the moving volume counts as 0, so that a small overlap gains nothing. Volumes are planes with
a margin of two voxels in which the mask is 0, as there. One candidate runs on one thread;
candidates run side by side.

With d = dcc/dW and b its curvature (the middle window's share of both), a change of the voxel index
x by D (x, 1) changes the sum by g^T D with the Gauss-Newton normal equations
    (sum of b (grad W, x) (grad W, x)^T) D = sum of d (grad W, x).
"""

import numpy as np
from numba import prange

from service.registration.kernels.launch import device, kernel

EPSILON = 1e-3  # of the variance of the whole image, which callers scale to 1
MARGIN = 2
SUMS = 6  # of m, m F, m F^2, m W, m W^2, m F W


@device
def _box_plane(x, nk, scratch, out):
    """Sum over five voxels along j and along k; the margin's sums mean nothing."""
    size = x.size
    scratch[:] = 0
    out[:] = 0
    row = scratch[2 : size - 2]
    x0, x1, x2, x3, x4 = x[: size - 4], x[1:], x[2:], x[3:], x[4:]
    for t in range(row.size):
        row[t] = x0[t] + x1[t] + x2[t] + x3[t] + x4[t]
    row = out[2 * nk : size - 2 * nk]
    x0, x1, x2 = scratch[: size - 4 * nk], scratch[nk:], scratch[2 * nk :]
    x3, x4 = scratch[3 * nk :], scratch[4 * nk :]
    for t in range(row.size):
        row[t] = x0[t] + x1[t] + x2[t] + x3[t] + x4[t]


@device
def _pull_row(moving, matrix, i, j, warped, mask):
    """Sample one row; where the sample leaves the moving volume or its mask, zero `mask`.

    `moving`: (values, 1 where they count).
    """
    values, valid = moving
    ni, nj, nk = values.shape
    one = np.float32(1.0)
    for k in range(warped.size):
        x = matrix[0, 0] * i + matrix[0, 1] * j + matrix[0, 2] * k + matrix[0, 3]
        y = matrix[1, 0] * i + matrix[1, 1] * j + matrix[1, 2] * k + matrix[1, 3]
        z = matrix[2, 0] * i + matrix[2, 1] * j + matrix[2, 2] * k + matrix[2, 3]
        if x < -0.5 or y < -0.5 or z < -0.5 or x > ni - 0.5 or y > nj - 0.5 or z > nk - 0.5:
            mask[k] = 0.0
        x, y, z = min(max(x, 0.0), ni - 1.0), min(max(y, 0.0), nj - 1.0), min(max(z, 0.0), nk - 1.0)
        a, c, e = int(x), int(y), int(z)
        b, d, f = min(a + 1, ni - 1), min(c + 1, nj - 1), min(e + 1, nk - 1)
        fx, fy, fz = np.float32(x - a), np.float32(y - c), np.float32(z - e)
        gx, gy, gz = one - fx, one - fy, one - fz
        near = (values[a, c, e] * gz + values[a, c, f] * fz) * gy + (
            values[a, d, e] * gz + values[a, d, f] * fz
        ) * fy
        far = (values[b, c, e] * gz + values[b, c, f] * fz) * gy + (
            values[b, d, e] * gz + values[b, d, f] * fz
        ) * fy
        warped[k] = near * gx + far * fx
        mask[k] *= valid[int(x + 0.5), int(y + 0.5), int(z + 0.5)]


@device
def _sums(fixed, nk, warped, mask, out):
    """out[0:6]: sums over j and k, plane by plane, of what SUMS lists."""
    rows = np.empty((2, fixed.shape[1]), np.float32)
    product, scratch = rows[0], rows[1]
    for i in range(fixed.shape[0]):
        f, w, m = fixed[i], warped[i], mask[i]
        _box_plane(m, nk, scratch, out[0, i])
        for t in range(product.size):
            product[t] = m[t] * f[t]
        _box_plane(product, nk, scratch, out[1, i])
        for t in range(product.size):
            product[t] = product[t] * f[t]
        _box_plane(product, nk, scratch, out[2, i])
        for t in range(product.size):
            product[t] = m[t] * w[t]
        _box_plane(product, nk, scratch, out[3, i])
        for t in range(product.size):
            product[t] = product[t] * w[t]
        _box_plane(product, nk, scratch, out[4, i])
        for t in range(product.size):
            product[t] = m[t] * f[t] * w[t]
        _box_plane(product, nk, scratch, out[5, i])


@device
def _slopes(images, sums, i, rows):
    """rows[0] = d, rows[1] = b on plane i, rows[2:8] are scratch; gives the plane's sum of cc."""
    fixed, warped, mask = images
    eps, one, zero = np.float32(EPSILON), np.float32(1.0), np.float32(0.0)
    for q in range(SUMS):
        s, total = sums[q], rows[q + 2]
        for t in range(total.size):
            total[t] = s[i - 2, t] + s[i - 1, t] + s[i, t] + s[i + 1, t] + s[i + 2, t]
    correlation = zero
    for t in range(rows.shape[1]):
        if mask[i, t] > 0:
            n1 = one / rows[2, t]
            mf, mw = rows[3, t] * n1, rows[5, t] * n1
            vf = max(rows[4, t] * n1 - mf * mf, zero) + eps
            vw = max(rows[6, t] * n1 - mw * mw, zero) + eps
            covariance = rows[7, t] * n1 - mf * mw
            a = covariance / (vf * vw)
            rows[1, t] = a * a * vf
            rows[0, t] = a * (fixed[i, t] - mf) - rows[1, t] * (warped[i, t] - mw)
            correlation += a * covariance
        else:
            rows[0, t] = zero
            rows[1, t] = zero
    return correlation


@device
def _row_moments(slopes, warped, i, j, nk, moments):
    """Sums over one row: b g g^T (6 products) times 1, k, k^2; d g (3) times 1, k."""
    moments[:] = 0
    for k in range(MARGIN, nk - MARGIN):
        t = j * nk + k
        b, d = slopes[1, t], slopes[0, t]
        x = np.float32(0.5) * (warped[i + 1, t] - warped[i - 1, t])
        y = np.float32(0.5) * (warped[i, t + nk] - warped[i, t - nk])
        z = np.float32(0.5) * (warped[i, t + 1] - warped[i, t - 1])
        products = (b * x * x, b * x * y, b * x * z, b * y * y, b * y * z, b * z * z)
        weight = np.float32(k)
        for q in range(6):
            moments[q] += products[q]
            moments[6 + q] += products[q] * weight
            moments[12 + q] += products[q] * weight * weight
        for q, g in enumerate((x, y, z)):
            moments[18 + q] += d * g
            moments[21 + q] += d * g * weight


@device
def _add_row(moments, i, j, matrix, vector):
    """Add one row's moments to the normal equations; unknown 4 p + q is D[p, q]."""
    pairs = np.array([[0, 1, 2], [1, 3, 4], [2, 4, 5]])
    place = np.array([i, j, 1.0, 1.0])  # index k is in the moments
    for p in range(3):
        for a in range(4):
            power = 1 if a == 2 else 0
            vector[4 * p + a] += place[a] * moments[18 + 3 * power + p]
            for q in range(3):
                for b in range(4):
                    both = power + (1 if b == 2 else 0)
                    value = place[a] * place[b] * moments[6 * both + pairs[p, q]]
                    matrix[4 * p + a, 4 * q + b] += value


@device
def _evaluate(fixed, mask, moving, matrix, nk, normal):
    """Mean cc over the fixed mask under one affine; fills the normal equations if there is room.

    `matrix` takes voxels of the padded fixed planes to moving voxels; `normal`: (n, 12, 13), of
    which the last column is the right-hand side; nothing is done for n = 0.
    """
    ni, size = fixed.shape
    warped, own = np.empty((ni, size), np.float32), mask.copy()
    for i in range(ni):
        for j in range(size // nk):
            row = slice(j * nk, (j + 1) * nk)
            _pull_row(moving, matrix, i, j, warped[i, row], own[i, row])
    sums = np.empty((SUMS, ni, size), np.float32)
    _sums(fixed, nk, warped, own, sums)
    rows, moments = np.empty((8, size), np.float32), np.empty(24, np.float64)
    total, counted = 0.0, 0.0
    left, right = np.zeros((12, 12)), np.zeros(12)
    for i in range(MARGIN, ni - MARGIN):
        total += _slopes((fixed, warped, own), sums, i, rows)
        for voxel in mask[i]:
            counted += voxel
        if normal.shape[0] > 0:
            for j in range(MARGIN, size // nk - MARGIN):
                _row_moments(rows, warped, i, j, nk, moments)
                _add_row(moments, i, j, left, right)
    if normal.shape[0] > 0:
        normal[0, :, :12] = left
        normal[0, :, 12] = right
    return total / max(counted, 1.0)


@kernel
def evaluate(fixed, mask, moving, matrices, nk, normals):
    """The mean cc of every candidate; `normals` (n, 12, 13) is filled when it is not empty.

    `fixed`, `mask`: padded planes; `moving`: (values, 1 where they count), 3-D; `matrices`:
    (n, 3, 4) from padded fixed voxels to moving ones.
    """
    scores = np.zeros(matrices.shape[0])
    for n in prange(matrices.shape[0]):
        own = normals[n : n + 1]
        scores[n] = _evaluate(fixed, mask, moving, matrices[n], nk, own)
    return scores
