"""How well an affine aligns two volumes by local correlation, and which way to better it.

The measure is that of `kernels.descent`, summed over the fixed mask: a voxel that the affine sends
out of the moving volume counts as 0, so that a small overlap gains nothing. Volumes are planes with
a margin of two voxels in which the mask is 0, as there. Planes run side by side, and every loop
writes one array, so that it becomes SIMD.

With d = dcc/dW and b its curvature (the middle window's share of both), a change of the voxel index
x by D (x, 1) changes the sum by g^T D with the Gauss-Newton normal equations
    (sum of b (grad W, x) (grad W, x)^T) D = sum of d (grad W, x).
"""

import numpy as np

from service.registration.kernels.launch import device, kernel_unless, prange, reduction, threads
from service.registration.kernels.sampling import NEXT, between, clamped, lower_corners

EPSILON = 1e-3  # of the variance of the whole image, which callers scale to 1
MARGIN = 2
WINDOW = 2 * MARGIN + 1
PIECE_VOXELS = (
    50_000  # a candidate's planes are shared out among threads, if there are as many each
)
SUMS = 6  # of m, m F, m F^2, m W, m W^2, m F W
LANES = 16  # samples that are located at a time
ZERO, HALF, ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)


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
def _locate(shape, start, step, first, floats, places):
    """Where LANES samples lie that begin at voxel `first` of a row.

    floats: shares along i, j, k, and 1 where the sample is inside; places: the lower corner in
    memory, and what `_nearest` finds; LANES entries of each, one after the other.
    """
    x0, y0, z0 = start
    dx, dy, dz = step
    ni, nj, nk = np.int32(shape[0] - 1), np.int32(shape[1] - 1), np.int32(shape[2] - 1)
    top = np.int32(max(ni - 1, 0)), np.int32(max(nj - 1, 0)), np.int32(max(nk - 1, 0))
    stride_i, stride_j = np.int32(shape[1] * shape[2]), np.int32(shape[2])
    for lane in range(LANES):
        at = np.float32(np.int32(first + lane))
        x, y, z = x0 + dx * at, y0 + dy * at, z0 + dz * at
        u, v = clamped(x, np.float32(ni)), clamped(y, np.float32(nj))
        w = clamped(z, np.float32(nk))
        a, b, c = min(np.int32(u), top[0]), min(np.int32(v), top[1]), min(np.int32(w), top[2])
        floats[lane] = u - np.float32(a)
        floats[LANES + lane] = v - np.float32(b)
        floats[2 * LANES + lane] = w - np.float32(c)
        off = max(abs(x - u), abs(y - v), abs(z - w))
        floats[3 * LANES + lane] = ONE if off <= HALF else ZERO
        places[lane] = np.int32(np.int32(np.int32(a * stride_i) + np.int32(b * stride_j)) + c)


@device
def _nearest(shape, floats, places):
    """Where the voxels that are nearest to the samples of `_locate` lie in memory."""
    stride_i, stride_j = np.int32(shape[1] * shape[2]), np.int32(shape[2])
    for lane in range(LANES):
        i = stride_i if floats[lane] >= HALF else np.int32(0)
        j = stride_j if floats[LANES + lane] >= HALF else np.int32(0)
        k = np.int32(1 if floats[2 * LANES + lane] >= HALF else 0)
        places[LANES + lane] = np.int32(places[lane] + np.int32(np.int32(i + j) + k))


@device
def _sample(corners, floats, places, out):
    """LANES trilinear samples; along k last, so that neighbours are loaded in pairs."""
    p00, p01, p10, p11 = corners
    for lane in range(LANES):
        n, wi, wj = np.uint64(np.uint32(places[lane])), floats[lane], floats[LANES + lane]
        m = n + NEXT
        a0, a1 = between(p00[n], p01[n], wj), between(p00[m], p01[m], wj)
        b0, b1 = between(p10[n], p11[n], wj), between(p10[m], p11[m], wj)
        a0, a1 = between(a0, b0, wi), between(a1, b1, wi)
        out[lane] = between(a0, a1, floats[2 * LANES + lane])


@device
def _warp_plane(moving, matrix, i, nk, warped, mask):
    """Sample plane i, trilinear; zero the mask where samples are outside or do not count.

    `moving`: (its lower corners, its shape, where it counts as a line, empty where it does all).
    """
    corners, shape, counts = moving
    floats, places = np.empty(4 * LANES, np.float32), np.empty(2 * LANES, np.int32)
    sampled = np.empty(LANES, np.float32)
    step = np.float32(matrix[0, 2]), np.float32(matrix[1, 2]), np.float32(matrix[2, 2])
    for j in range(warped.size // nk):
        start = (
            np.float32(matrix[0, 0] * i + matrix[0, 1] * j + matrix[0, 3]),
            np.float32(matrix[1, 0] * i + matrix[1, 1] * j + matrix[1, 3]),
            np.float32(matrix[2, 0] * i + matrix[2, 1] * j + matrix[2, 3]),
        )
        for first in range(0, nk, LANES):
            _locate(shape, start, step, first, floats, places)
            _sample(corners, floats, places, sampled)
            at = j * nk + first
            if counts.size > 0:
                _nearest(shape, floats, places)
                for lane in range(LANES):
                    floats[3 * LANES + lane] *= counts[np.uint32(places[LANES + lane])]
            if first + LANES <= nk:
                for lane in range(LANES):
                    warped[at + lane] = sampled[lane]
                for lane in range(LANES):
                    mask[at + lane] *= floats[3 * LANES + lane]
            else:
                for lane in range(nk - first):
                    warped[at + lane] = sampled[lane]
                    mask[at + lane] *= floats[3 * LANES + lane]


@device
def _sums(f, w, m, nk, rows, out):
    """out[0:6]: sums over j and k of a plane of what SUMS lists; `rows` is scratch."""
    product, scratch = rows[0], rows[1]
    _box_plane(m, nk, scratch, out[0])
    for t in range(product.size):
        product[t] = m[t] * f[t]
    _box_plane(product, nk, scratch, out[1])
    for t in range(product.size):
        product[t] = product[t] * f[t]
    _box_plane(product, nk, scratch, out[2])
    for t in range(product.size):
        product[t] = m[t] * w[t]
    _box_plane(product, nk, scratch, out[3])
    for t in range(product.size):
        product[t] = product[t] * w[t]
    _box_plane(product, nk, scratch, out[4])
    for t in range(product.size):
        product[t] = m[t] * f[t] * w[t]
    _box_plane(product, nk, scratch, out[5])


@device
def _moments_of_windows(sums, m, rows):
    """rows: 1 / N (0 outside the mask), mean F, variance F + eps, mean W, variance W + eps, cov.

    `sums` are those of five planes, in any order; `m` is the middle one's mask.
    """
    for q in range(SUMS):
        total = rows[q]
        s0, s1, s2, s3, s4 = sums[0, q], sums[1, q], sums[2, q], sums[3, q], sums[4, q]
        for t in range(total.size):
            total[t] = s0[t] + s1[t] + s2[t] + s3[t] + s4[t]
    n1, mf, vf, mw, vw, covariance = rows[0], rows[1], rows[2], rows[3], rows[4], rows[5]
    eps = np.float32(EPSILON)
    for t in range(n1.size):
        n1[t] = (m[t] if m[t] > ZERO else ZERO) / max(n1[t], ONE)
    for t in range(mf.size):
        mf[t] *= n1[t]
    for t in range(mw.size):
        mw[t] *= n1[t]
    for t in range(vf.size):
        vf[t] = max(vf[t] * n1[t] - mf[t] * mf[t], ZERO) + eps
    for t in range(vw.size):
        vw[t] = max(vw[t] * n1[t] - mw[t] * mw[t], ZERO) + eps
    for t in range(covariance.size):
        covariance[t] = covariance[t] * n1[t] - mf[t] * mw[t]


@reduction
def _correlation_sum(a, vf, vw):
    """Sum of cc = a^2 (var F + eps) (var W + eps)."""
    total = ZERO
    for t in range(a.size):
        total += a[t] * a[t] * vf[t] * vw[t]
    return total


@device
def _slopes(f, w, rows):
    """From `_moments_of_windows`, rows[0] = d and rows[5] = b of a plane; gives the sum of cc."""
    mf, vf, mw, vw, a, d = rows[1], rows[2], rows[3], rows[4], rows[5], rows[0]
    for t in range(a.size):
        a[t] = a[t] / (vf[t] * vw[t])
    correlation = _correlation_sum(a, vf, vw)
    for t in range(d.size):
        d[t] = a[t] * (f[t] - mf[t])
    for t in range(a.size):
        a[t] = a[t] * a[t] * vf[t]
    for t in range(d.size):
        d[t] -= a[t] * (w[t] - mw[t])
    return correlation


@device
def _gradients(before, w, after, nk, rows):
    """rows[1:4]: the gradient of W along i, j and k on a plane, but for the margin."""
    size = w.size
    x, y, z = rows[1], rows[2, nk : size - nk], rows[3, 1 : size - 1]
    for t in range(size):
        x[t] = HALF * (after[t] - before[t])
    left, right = w[: size - 2 * nk], w[2 * nk :]
    for t in range(y.size):
        y[t] = HALF * (right[t] - left[t])
    left, right = w[: size - 2], w[2:]
    for t in range(z.size):
        z[t] = HALF * (right[t] - left[t])


@device
def _number(nk, js, ks):
    """js, ks: the indices of each voxel of a plane."""
    for t in range(js.size):
        js[t], ks[t] = np.float32(t // nk), np.float32(t % nk)


@reduction
def _weighed(x, js, ks):
    """The sums of x times 1, j, k, j j, j k, k k."""
    s = sj = sk = sjj = sjk = skk = ZERO
    for t in range(x.size):
        xj, xk = x[t] * js[t], x[t] * ks[t]
        s, sj, sk = s + x[t], sj + xj, sk + xk
        sjj, sjk, skk = sjj + xj * js[t], sjk + xj * ks[t], skk + xk * ks[t]
    return s, sj, sk, sjj, sjk, skk


@device
def _plane_moments(rows, nk, places, moments):
    """moments[n]: the `_weighed` sums over the plane of b g_p g_q (six n), then d g_p (three).

    `rows`: d, the gradient g of W along i, j and k, scratch, b; `places`: of `_number`.
    """
    first, stop, n = MARGIN * nk, rows.shape[1] - MARGIN * nk, 0
    product, b, d = rows[4, first:stop], rows[5, first:stop], rows[0, first:stop]
    js, ks = places[0, first:stop], places[1, first:stop]
    for p in range(3):
        g = rows[1 + p, first:stop]
        for q in range(p, 3):
            h = rows[1 + q, first:stop]
            for t in range(product.size):
                product[t] = b[t] * g[t] * h[t]
            moments[n, :] = _weighed(product, js, ks)
            n += 1
    for p in range(3):
        g = rows[1 + p, first:stop]
        for t in range(product.size):
            product[t] = d[t] * g[t]
        moments[n + p, :] = _weighed(product, js, ks)


@device
def _add_plane(moments, i, normal):
    """The plane's share of the normal equations; unknown 4 p + q is D[p, q]."""
    pairs = np.array([[0, 1, 2], [1, 3, 4], [2, 4, 5]])
    # Which of the sums (i, j, k, 1) times itself comes to, but for its factors i.
    left = np.array([[0, 1, 2, 0], [1, 3, 4, 1], [2, 4, 5, 2], [0, 1, 2, 0]])
    for p in range(3):
        for a in range(4):
            ones = np.float64(i if a == 0 else 1)
            normal[4 * p + a, 12] = ones * moments[6 + p, left[3, a]]
            for q in range(3):
                for b in range(4):
                    weight = ones * np.float64(i if b == 0 else 1)
                    normal[4 * p + a, 4 * q + b] = weight * moments[pairs[p, q], left[a, b]]


def evaluate(
    fixed: np.ndarray,
    mask: np.ndarray,
    moving: tuple[np.ndarray, np.ndarray],
    matrices: np.ndarray,
    nk: int,
    normals: np.ndarray,
    *,
    counted: float,
) -> np.ndarray:
    """The mean cc of every candidate; `normals` (n, 12, 13) is filled when it is not empty.

    `fixed`, `mask`: padded planes; `moving`: (values, 1 where they count), 3-D, the second empty
    where all do; `matrices`: (n, 3, 4) from padded fixed voxels to moving ones. Of `normals` the
    last column is the right-hand side. `counted`: voxels in the mask.
    """
    count, planes = matrices.shape[0], fixed.shape[0]
    totals = np.zeros((count, planes))
    parts = np.zeros((count, planes, 12, 13) if len(normals) else (count, 0, 12, 13))
    pieces = 1 if count >= threads() else max(1, min(threads(), fixed.size // PIECE_VOXELS))
    evaluate_all((fixed, mask), moving, matrices, (nk, pieces), parts, totals)
    if len(normals):
        parts.sum(axis=1, out=normals)
    return np.asarray(totals.sum(axis=1) / max(1.0, counted))


def _is_in_one_piece(_images, _moving, matrices, layout, _parts, _totals):
    return len(matrices) * layout[1] == 1


@kernel_unless(_is_in_one_piece)
def evaluate_all(images, moving, matrices, layout, parts, totals):
    """What each plane adds to `evaluate`: totals (n, planes), parts (n, planes or 0, 12, 13).

    `images` are (fixed, mask), `layout` is nk and how many pieces a candidate's planes are cut
    into: candidates and pieces run side by side.
    """
    nk, pieces = layout
    planes = images[0].shape[0] - 2 * MARGIN
    for task in prange(matrices.shape[0] * pieces):
        n, piece = np.int64(task) // pieces, np.int64(task) % pieces
        first, stop = planes * piece // pieces, planes * (piece + 1) // pieces
        ends = first + MARGIN, stop + MARGIN
        _evaluate_planes(images, (moving, matrices[n]), nk, ends, parts[n], totals[n])


@device
def _evaluate_planes(images, moved, nk, ends, parts, totals):
    """Planes from ends[0] on and before ends[1]; five at a time are kept, which fit the cache.

    `moved` is (moving, matrix).
    """
    fixed, mask = images
    (values, counts), matrix = moved
    moving = lower_corners(values), values.shape, counts.reshape(-1)
    size = fixed.shape[1]
    warped, own = np.empty((WINDOW, size), np.float32), np.empty((WINDOW, size), np.float32)
    sums, rows = np.empty((WINDOW, SUMS, size), np.float32), np.empty((SUMS, size), np.float32)
    moments, places = np.empty((9, 6)), np.empty((2, size), np.float32)
    _number(nk, places[0], places[1])
    for last in range(ends[0] - MARGIN, ends[1] + MARGIN):
        slot = last % WINDOW
        own[slot] = mask[last]
        _warp_plane(moving, matrix, last, nk, warped[slot], own[slot])
        _sums(fixed[last], warped[slot], own[slot], nk, rows, sums[slot])
        i = last - MARGIN
        if i < ends[0]:
            continue
        before, at, after = (i - 1) % WINDOW, i % WINDOW, (i + 1) % WINDOW
        _moments_of_windows(sums, own[at], rows)
        totals[i] = _slopes(fixed[i], warped[at], rows)
        if parts.shape[0] > 0:
            _gradients(warped[before], warped[at], warped[after], nk, rows)
            _plane_moments(rows, nk, places, moments)
            _add_plane(moments, i, parts[i])
