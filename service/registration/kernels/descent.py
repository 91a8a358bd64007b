"""Descent on local correlation: the measure, its exact derivative, and one step of a field.

A volume is held as planes: float32 (ni, nj * nk), one row per index i. Walking a whole plane as one
flat row makes every loop long and contiguous. Rows of the plane then run into each other at their
ends, which is harmless as long as a margin of MARGIN voxels around the volume holds zeros.
Every loop writes one array and reads few: the compiler checks each pair for overlap before it
vectorises, and gives up when there are many.

With sums over a window around x, counted over the mask only,
    cc = cov(F, W)^2 / ((var F + eps) (var W + eps))
and LNCC is the mean of cc over the mask. Its derivative by W(y) gathers all windows that hold y:
    dLNCC/dW(y) = 2 / |mask| * sum over x of [a(x) (F(y) - mF(x)) - b(x) (W(y) - mW(x))] / N(x)
    a = cov / ((var F + eps) (var W + eps)),   b = a^2 (var F + eps)
which is F box(a/N) - W box(b/N) + box((b mW - a mF)/N): box filters again.

Fields are float32 (3, ni, nj * nk) in voxels of their own lattice; the moving image lies on a
larger lattice of the same spacing, whose voxel x + offset is voxel x of the field.

Source: Avants et al., Symmetric diffeomorphic image registration with cross-correlation, Medical
Image Analysis 12, 2008, for the measure; the derivative here is exact, theirs keeps the middle
window only.
"""

import numpy as np

from service.registration.kernels.launch import device, kernel, prange, reduction
from service.registration.kernels.planes import MARGIN, extend_plane
from service.registration.kernels.sampling import clamped, linear_row, lower_corners

EPSILON = 1e-3  # of the variance of the whole image, which callers scale to 1
TINY = 1e-30  # mm^2, below the square of any force that matters


@device
def _box_plane(x, nk, outer, scratch, out):
    """Sum over five voxels along j and along k; the outermost two are weighted by `outer`.

    `outer` is (weight along j, weight along k): 1 gives a window of five voxels, 0 one of three.
    """
    wj, wk = np.float32(outer[0]), np.float32(outer[1])
    n = x.size - 4
    x0, x1, x2, x3, x4 = x[:n], x[1 : n + 1], x[2 : n + 2], x[3 : n + 3], x[4 : n + 4]
    row = scratch[2 : n + 2]
    scratch[:2] = 0
    scratch[n + 2 :] = 0
    for t in range(n):
        row[t] = x1[t] + x2[t] + x3[t] + wk * (x0[t] + x4[t])
    n = x.size - 4 * nk
    s0, s1, s2 = scratch[:n], scratch[nk : n + nk], scratch[2 * nk : n + 2 * nk]
    s3, s4 = scratch[3 * nk : n + 3 * nk], scratch[4 * nk : n + 4 * nk]
    out[: 2 * nk] = 0
    out[n + 2 * nk :] = 0
    row = out[2 * nk : n + 2 * nk]
    for t in range(n):
        row[t] = s1[t] + s2[t] + s3[t] + wj * (s0[t] + s4[t])


@device
def _five_planes(x, i, w, out):
    """Weighted sum of the planes i - 2 to i + 2: w[0] the middle, w[1] and w[2] the neighbours."""
    w0, w1, w2 = w[0], w[1], w[2]
    p0, p1, p2, p3, p4 = x[i - 2], x[i - 1], x[i], x[i + 1], x[i + 2]
    for t in range(out.size):
        out[t] = w0 * p2[t] + w1 * (p1[t] + p3[t]) + w2 * (p0[t] + p4[t])


@device
def _smooth_plane(x, nk, weights, scratch, out):
    """Five-tap smoothing along k, then j; `weights` (3 axes, 3 taps) as in `_five_planes`."""
    w0, w1, w2 = weights[2, 0], weights[2, 1], weights[2, 2]
    n = x.size - 4
    x0, x1, x2, x3, x4 = x[:n], x[1 : n + 1], x[2 : n + 2], x[3 : n + 3], x[4 : n + 4]
    row = scratch[2 : n + 2]
    scratch[:2] = x[:2]
    scratch[n + 2 :] = x[n + 2 :]
    for t in range(n):
        row[t] = w0 * x2[t] + w1 * (x1[t] + x3[t]) + w2 * (x0[t] + x4[t])
    w0, w1, w2 = weights[1, 0], weights[1, 1], weights[1, 2]
    n = x.size - 4 * nk
    s0, s1, s2 = scratch[:n], scratch[nk : n + nk], scratch[2 * nk : n + 2 * nk]
    s3, s4 = scratch[3 * nk : n + 3 * nk], scratch[4 * nk : n + 4 * nk]
    out[: 2 * nk] = scratch[: 2 * nk]
    out[n + 2 * nk :] = scratch[n + 2 * nk :]
    row = out[2 * nk : n + 2 * nk]
    for t in range(n):
        row[t] = w0 * s2[t] + w1 * (s1[t] + s3[t]) + w2 * (s0[t] + s4[t])


@kernel
def fixed_statistics(fixed, mask, nk, outer, out, sums):
    """Fill out[0:3] with 1 / N (0 outside the mask), the local mean, and the variance + epsilon.

    `sums` is scratch of the same size.
    """
    ni, size = fixed.shape
    w = np.array([1.0, 1.0, outer[0]], np.float32)
    for i in prange(ni):
        scratch, product = np.empty(size, np.float32), np.empty(size, np.float32)
        _box_plane(mask[i], nk, (outer[1], outer[2]), scratch, sums[0, i])
        product[:] = fixed[i] * mask[i]
        _box_plane(product, nk, (outer[1], outer[2]), scratch, sums[1, i])
        product[:] = product * fixed[i]
        _box_plane(product, nk, (outer[1], outer[2]), scratch, sums[2, i])
    out[:, :2] = 0
    out[:, ni - 2 :] = 0
    for i in prange(2, ni - 2):
        for q in range(3):
            _five_planes(sums[q], i, w, out[q, i])
        for t in range(size):
            inverse = np.float32(0.0)
            if mask[i, t] > 0 and out[0, i, t] > 0:
                inverse = np.float32(1.0) / out[0, i, t]
            mean = out[1, i, t] * inverse
            variance = max(out[2, i, t] * inverse - mean * mean, np.float32(0.0))
            out[0, i, t] = inverse
            out[1, i, t] = mean
            out[2, i, t] = variance + np.float32(EPSILON)


@device
def _locate_row(shape, start, shift, corner, shares):
    """Where start + (0, 0, k) + shift[k] lies, clamped at the border: the lower corner, the shares.

    By itself, for this becomes SIMD, and what follows does not.
    """
    u, v, w = shift
    x0, y0, z0 = np.float32(start[0]), np.float32(start[1]), np.float32(start[2])
    ni, nj, nk = np.int32(shape[0] - 1), np.int32(shape[1] - 1), np.int32(shape[2] - 1)
    top_i, top_j, top_k = np.int32(ni - 1), np.int32(nj - 1), np.int32(nk - 1)
    stride_i, stride_j = np.int32(shape[1] * shape[2]), np.int32(shape[2])
    for k in range(corner.size):
        x, y = clamped(x0 + u[k], np.float32(ni)), clamped(y0 + v[k], np.float32(nj))
        z = clamped(z0 + np.float32(np.int32(k)) + w[k], np.float32(nk))
        a, b, c = min(np.int32(x), top_i), min(np.int32(y), top_j), min(np.int32(z), top_k)
        shares[0, k], shares[1, k] = x - np.float32(a), y - np.float32(b)
        shares[2, k] = z - np.float32(c)
        corner[k] = np.uint32(np.int32(np.int32(a * stride_i) + np.int32(b * stride_j)) + c)


@device
def _warp_plane(moving, field, i, nk, offset, out):
    corners, rows = lower_corners(moving), out.reshape(1, -1, nk)
    corner, shares = np.empty(nk, np.uint32), np.empty((3, nk), np.float32)
    for j in range(rows.shape[1]):
        o = j * nk
        shift = field[0, i, o : o + nk], field[1, i, o : o + nk], field[2, i, o : o + nk]
        start = (i + offset[0], j + offset[1], offset[2])
        _locate_row(moving.shape, start, shift, corner, shares)
        linear_row(corners, corner, shares, (rows, 0, j))


@kernel
def warp_planes(moving, field, nk, offset, out):
    """out(x) = moving(x + offset + field(x)), trilinear, clamped at the border of `moving`."""
    for i in prange(out.shape[0]):
        _warp_plane(moving, field, i, nk, offset, out[i])


@kernel
def warp_and_sum(moving, field, place, fixed, warped, out):
    """As `warp_planes`, then out[0:3] = the sums over j and k of W, W^2 and F W in the mask.

    `place`: (nk, offset, weights of the window's outer voxels by axis); `fixed`: (F times the mask,
    mask).
    """
    nk, offset, outer = place
    masked_fixed, mask = fixed
    size = warped.shape[1]
    for i in prange(warped.shape[0]):
        _warp_plane(moving, field, i, nk, offset, warped[i])
        rows = np.empty((2, size), np.float32)
        f, m, w, product, scratch = masked_fixed[i], mask[i], warped[i], rows[0], rows[1]
        for t in range(size):
            product[t] = m[t] * w[t]
        _box_plane(product, nk, (outer[1], outer[2]), scratch, out[0, i])
        for t in range(size):
            product[t] = product[t] * w[t]
        _box_plane(product, nk, (outer[1], outer[2]), scratch, out[1, i])
        for t in range(size):
            product[t] = f[t] * w[t]
        _box_plane(product, nk, (outer[1], outer[2]), scratch, out[2, i])


@reduction
def _correlation_sum(stats, i, a, sw, sww):
    """Sum over plane i of cc = a^2 (var F + eps) (var W + eps)."""
    n1, vf = stats[0, i], stats[2, i]
    eps, zero = np.float32(EPSILON), np.float32(0.0)
    total = zero
    for t in range(a.size):
        mean = sw[t] * n1[t]
        variance = max(sww[t] * n1[t] - mean * mean, zero) + eps
        total += a[t] * a[t] * vf[t] * variance
    return total


@device
def _coefficients(stats, i, sw, sww, sfw):
    """Turn the window sums of plane i into the three integrands, in place; gives the sum of cc."""
    n1, mf, vf = stats[0, i], stats[1, i], stats[2, i]
    eps, zero = np.float32(EPSILON), np.float32(0.0)
    for t in range(sw.size):
        mean = sw[t] * n1[t]
        variance = max(sww[t] * n1[t] - mean * mean, zero) + eps
        covariance = sfw[t] * n1[t] - mf[t] * mean
        a = covariance / (vf[t] * variance)
        sfw[t] = a
    total = _correlation_sum(stats, i, sfw, sw, sww)
    for t in range(sw.size):
        a = sfw[t]
        sw[t] = (a * a * vf[t] * sw[t] * n1[t] - a * mf[t]) * n1[t]
    for t in range(sw.size):
        sww[t] = sfw[t] * sfw[t] * vf[t] * n1[t]
    for t in range(sw.size):
        sfw[t] = sfw[t] * n1[t]
    return total


@kernel
def correlation(sums, stats, nk, outer, out, totals):
    """From the sums of `warp_and_sum` the j-k sums of the derivative's integrands.

    totals[i] is the sum of cc over plane i.
    """
    _, ni, size = sums.shape
    w = np.array([1.0, 1.0, outer[0]], np.float32)
    for i in prange(ni):
        totals[i] = 0.0
        if i < 2 or i >= ni - 2:
            out[:, i] = 0
        else:
            rows = np.empty((4, size), np.float32)
            for q in range(3):
                _five_planes(sums[q], i, w, rows[q])
            totals[i] = _coefficients(stats, i, rows[0], rows[1], rows[2])
            for q in range(3):
                _box_plane(rows[q], nk, (outer[1], outer[2]), rows[3], out[q, i])


@device
def _derivative_plane(images, integrands, i, w, rows):
    """rows[0] = |mask| / 2 dLNCC/dW on plane i; rows[1:3] are scratch."""
    fixed, mask, warped = images
    for q in range(3):
        _five_planes(integrands[q], i, w, rows[q])
    c, b, a, f, v, m = rows[0], rows[1], rows[2], fixed[i], warped[i], mask[i]
    for t in range(c.size):
        c[t] = m[t] * (f[t] * a[t] - v[t] * b[t] + c[t])


@kernel
def force(images, integrands, nk, setting, out):
    """out = dLNCC/dW times the gradient of W, in voxels, smoothed along j and k.

    `images`: (F, mask, W). `setting`: (weights of the window along i, smoothing taps (3, 3), scale
    per axis), where the scale 1 / spacing^2 turns a gradient by voxels into a shift in voxels.
    """
    fixed, warped = images[0], images[2]
    window, taps, scale = setting
    ni, size = fixed.shape
    half = np.float32(0.5)
    for i in prange(ni):
        if i < 2 or i >= ni - 2:
            out[:, i] = 0
        else:
            rows = np.empty((5, size), np.float32)
            _derivative_plane(images, integrands, i, window, rows)
            d, g, w = rows[0], rows[3], warped[i]
            before, after = warped[i - 1], warped[i + 1]
            s = half * scale[0]
            for t in range(size):
                g[t] = s * d[t] * (after[t] - before[t])
            _smooth_plane(g, nk, taps, rows[4], out[0, i])
            s, n = half * scale[1], size - 2 * nk
            inner, before, after, e = g[nk : n + nk], w[:n], w[2 * nk :], d[nk : n + nk]
            for t in range(n):
                inner[t] = s * e[t] * (after[t] - before[t])
            _smooth_plane(g, nk, taps, rows[4], out[1, i])
            s, n = half * scale[2], size - 2
            inner, before, after, e = g[1 : n + 1], w[:n], w[2:], d[1 : n + 1]
            for t in range(n):
                inner[t] = s * e[t] * (after[t] - before[t])
            _smooth_plane(g, nk, taps, rows[4], out[2, i])


@device
def _largest(x):
    """Of numbers that are not negative: they are in the order of their bits, and SIMD takes those.

    Compared as numbers, each would wait for the one before.
    """
    bits, most = x.view(np.int32), np.int32(0)
    for t in range(bits.size):
        most = bits[t] if bits[t] > most else most
    at = np.full(1, most)
    return at.view(np.float32)[0]


@device
def _compress(u, v, w, spacing, shares):
    """Scale vectors in place by their length in mm to the power -1/4; gives the largest square.

    `shares` is scratch.
    """
    a, b, c = spacing[0] * spacing[0], spacing[1] * spacing[1], spacing[2] * spacing[2]
    one, tiny = np.float32(1.0), np.float32(TINY)
    for t in range(shares.size):
        shares[t] = a * u[t] * u[t] + b * v[t] * v[t] + c * w[t] * w[t]
    top = _largest(shares)
    for t in range(shares.size):
        shares[t] = one / np.sqrt(np.sqrt(np.sqrt(shares[t] + tiny)))
    for t in range(u.size):
        u[t] *= shares[t]
    for t in range(v.size):
        v[t] *= shares[t]
    for t in range(w.size):
        w[t] *= shares[t]
    return top / np.sqrt(np.sqrt(top + tiny))


@kernel
def smooth_force(x, taps, spacing, out, largest):
    """Smooth a force along i into `out`, and compress it: each length to the power 3/4.

    The largest displacement of a step is given, so without it the few strongest forces, at edges
    that are already near each other, would hold back all others. largest[i] is the largest squared
    length of plane i, in mm^1.5.
    """
    ni = x.shape[1]
    for i in prange(ni):
        if i < 2 or i >= ni - 2:
            out[:, i] = x[:, i]
            largest[i] = 0.0
        else:
            for q in range(3):
                _five_planes(x[q], i, taps[0], out[q, i])
            shares = np.empty(x.shape[2], np.float32)
            largest[i] = _compress(out[0, i], out[1, i], out[2, i], spacing, shares)


@device
def _advect(u, share, below, above, out):
    """Add to out what linear interpolation of u moves by `share` of a voxel along one axis."""
    zero = np.float32(0.0)
    for t in range(out.size):
        forth, back = max(share[t], zero), min(share[t], zero)
        out[t] += forth * (above[t] - u[t]) + back * (u[t] - below[t])


@device
def _composed_plane(field, q, i, v, nk, out):
    """out = v[q] + field[q](x + v) on plane i, to first order along each axis."""
    ni, size = field.shape[1], field.shape[2]
    u = field[q, i]
    for t in range(size):
        out[t] = v[q, t] + u[t]
    _advect(u, v[0], field[q, max(i - 1, 0)], field[q, min(i + 1, ni - 1)], out)
    n = size - 2 * nk
    _advect(u[nk : n + nk], v[1, nk : n + nk], u[:n], u[2 * nk :], out[nk : n + nk])
    n = size - 2
    _advect(u[1 : n + 1], v[2, 1 : n + 1], u[:n], u[2:], out[1 : n + 1])


@kernel
def compose_planes(field, update, scale, nk, taps, out):
    """out(x) = v + field(x + v) with v = scale * update(x), smoothed along j and k.

    `v` is at most a voxel long, so x + v lies among the next neighbours; products of its components
    are left out, which a smooth field does not notice.
    """
    _, ni, size = field.shape
    for i in prange(ni):
        rows = np.empty((5, size), np.float32)
        v = rows[:3]
        for q in range(3):
            for t in range(size):
                v[q, t] = scale * update[q, i, t]
        for q in range(3):
            _composed_plane(field, q, np.int64(i), v, nk, rows[3])
            _smooth_plane(rows[3], nk, taps, rows[4], out[q, i])
            extend_plane(out[q, i], nk)


@kernel
def smooth_field(x, taps, out):
    """Smooth a field along i into `out`; the outermost inner planes repeat through the margin."""
    ni = x.shape[1]
    for i in prange(ni):
        inner = min(max(np.int64(i), MARGIN), ni - 1 - MARGIN)
        for q in range(3):
            _five_planes(x[q], inner, taps[0], out[q, i])
