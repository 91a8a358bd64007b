"""Local correlation of two images and its derivative, threaded over the planes of a volume.

With weights w of a window around x, counted over the mask m (see `trainer.losses.correlation`):
    n = sum w m,  mF = sum w m F / n,  cov = sum w m F W / n - mF mW,  vF, vW likewise plus a floor
    cc = (cov^2 + p) / (vF vW + q)          or, not squared, cov / sqrt(vF vW + q)
and with cc weighted by g(x) in the total, the derivative by W(y) gathers all windows that hold y:
    m(y) sum over x of w g [a (F(y) - mF) - b (W(y) - mW)] = m [F box(a) - W box(b) + box(c)]
    a = dcc/dcov / n,  b = -2 dcc/dvW / n,  c = b mW - a mF,  each times g
which is box filters again. The derivative by F is the same with the images changed over.

Each loop writes one row and reads few, so that the compiler vectorises it. Arrays are float32, or
float64 for checks; images (n, ni, nj, nk), a 2-D image has ni = 1.
"""

import numpy as np
from numba import prange

from service.registration.kernels.launch import device, kernel

SUMS = 6  # of F, W, FF, WW, FW and the mask


@device
def _add_product(a, b, weight, out):
    for k in range(out.size):
        out[k] += weight * a[k] * b[k]


@device
def _add(a, weight, out):
    for k in range(out.size):
        out[k] += weight * a[k]


@device
def _filter_row(padded, weights, out):
    """out[k] = sum over t of weights[t] padded[k + t]."""
    n = out.size
    out[:] = 0
    for t in range(weights.size):
        _add(padded[t : t + n], weights[t], out)


@device
def _add_row(fwm, masked, shifts, weight, rows, padded):
    """Add one row of F, W and the mask, times `weight`, to the sums; rows is scratch (4, nk)."""
    f, w, m = fwm
    n, r = f.size, (padded.shape[1] - f.size) // 2
    x, y, mx, my = rows[0], rows[1], rows[2], rows[3]
    for k in range(x.size):
        x[k] = f[k] - shifts[0]
    for k in range(y.size):
        y[k] = w[k] - shifts[1]
    if masked:
        for k in range(x.size):
            mx[k] = m[k] * x[k]
        for k in range(x.size):
            my[k] = m[k] * y[k]
        _add(m, weight, padded[5, r : r + n])
    else:
        mx, my = x, y
    _add(mx, weight, padded[0, r : r + n])
    _add(my, weight, padded[1, r : r + n])
    _add_product(mx, x, weight, padded[2, r : r + n])
    _add_product(my, y, weight, padded[3, r : r + n])
    _add_product(mx, y, weight, padded[4, r : r + n])


@device
def _plane_sums(images, mask, shifts, weights, i, plane):
    """plane[q, j] = the sums over the window's extent along i and k."""
    fixed, warped = images
    ni, nj, nk = fixed.shape
    wi, wk = weights[0], weights[2]
    masked = mask.size > 0
    ri, rk, count = wi.size // 2, wk.size // 2, SUMS if masked else SUMS - 1
    padded = np.zeros((SUMS, nk + 2 * rk), fixed.dtype)
    rows = np.empty((4, nk), fixed.dtype)
    for j in range(nj):
        padded[:] = 0
        for t in range(max(0, ri - i), min(wi.size, ni + ri - i)):
            p = i + t - ri
            m = mask[p, j] if masked else fixed[p, j]
            _add_row((fixed[p, j], warped[p, j], m), masked, shifts, wi[t], rows, padded)
        for q in range(count):
            _filter_row(padded[q], wk, plane[q, j])


@device
def _along_j(plane, weights, j, count, sums):
    """sums[q] = the sum of weighted rows of the plane around row j, for the first `count`."""
    nj, r = plane.shape[1], weights.size // 2
    sums[:] = 0
    for q in range(count):
        for t in range(max(0, r - j), min(weights.size, nj + r - j)):
            _add(plane[q, j + t - r], weights[t], sums[q])


@device
def _moments(s, inverse, floor):
    """Sums become, in place: mean F, mean W, variance F, variance W (plus floor), covariance."""
    zero = s.dtype.type(0)
    for q in range(SUMS - 1):
        row = s[q]
        for k in range(inverse.size):
            row[k] *= inverse[k]
    f, w, ff, ww, fw = s[0], s[1], s[2], s[3], s[4]
    for k in range(inverse.size):
        ff[k] = max(ff[k] - f[k] * f[k], zero) + floor
    for k in range(inverse.size):
        ww[k] = max(ww[k] - w[k] * w[k], zero) + floor
    for k in range(inverse.size):
        fw[k] = fw[k] - f[k] * w[k]


@device
def _correlations(s, setting, squared, cc, a, b):
    """Fill cc, and a and b without g / n, from the moments."""
    p, q = setting[0], setting[1]
    ff, ww, fw = s[2], s[3], s[4]
    two, one, zero = s.dtype.type(2), s.dtype.type(1), s.dtype.type(0)
    for k in range(cc.size):
        denominator = ff[k] * ww[k] + q
        b[k] = one / denominator if denominator > zero else zero
    if squared:
        for k in range(cc.size):
            cc[k] = (fw[k] * fw[k] + p) * b[k]
        for k in range(cc.size):
            a[k] = two * fw[k] * b[k]
        for k in range(cc.size):
            b[k] = two * cc[k] * ff[k] * b[k]
    else:
        for k in range(cc.size):
            a[k] = np.sqrt(b[k])
        for k in range(cc.size):
            cc[k] = fw[k] * a[k]
        for k in range(cc.size):
            b[k] = cc[k] * ff[k] * b[k]


@device
def _finish_row(s, setting, squared, rows, abc):
    """From sums to the total of g cc and, where there is room, a, b and c of the row."""
    oa, ob, oc = abc
    cc, a, b, inverse, g = rows[0], rows[1], rows[2], rows[3], rows[4]
    _moments(s, inverse, setting[2])
    _correlations(s, setting, squared, cc, a, b)
    total = 0.0
    for k in range(cc.size):
        total += np.float64(cc[k] * g[k])
    if oa.size > 0:
        mf, mw = s[0], s[1]
        for k in range(cc.size):
            oa[k] = a[k] * inverse[k] * g[k]
        for k in range(cc.size):
            ob[k] = b[k] * inverse[k] * g[k]
        for k in range(cc.size):
            oc[k] = ob[k] * mw[k] - oa[k] * mf[k]
    return total


@device
def _invert(counts, cij, sums, masked, inverse):
    """inverse = 1 / n; 0 where the window holds nothing."""
    zero, one = inverse.dtype.type(0), inverse.dtype.type(1)
    if masked:
        for k in range(inverse.size):
            inverse[k] = one / sums[k] if sums[k] > zero else zero
    else:
        for k in range(inverse.size):
            inverse[k] = one / (cij * counts[k])


@kernel
def correlate(images, mask, shifts, window, setting, results):
    """Fill `integrands` (n, 3, ni, nj, nk) with a, b, c, and totals[n, i] with the sums of g cc.

    Args:
        images: F and W, (n, ni, nj, nk).
        mask: (n, ni, nj, nk), or of no elements for none; it is also g, else g is 1.
        shifts: (n, 2), subtracted from F and W; harmless unless voxels outside count as zeros.
        window: (weights along i, j, k, each of odd length; their sums by index along i, j, k, for
            where no mask is given; whether to square).
        setting: (p, q, floor).
        results: (integrands, of no elements where no derivative is wanted; totals, float64).
    """
    fixed, warped = images
    weights, counts, squared = window
    integrands, totals = results
    n, ni, nj, nk = fixed.shape
    masked = mask.size > 0
    for part in prange(n * ni):
        b, i = np.int64(part) // ni, np.int64(part) % ni
        plane = np.empty((SUMS, nj, nk), fixed.dtype)
        here = mask[b] if masked else mask[0]
        pair = (fixed[b], warped[b])
        _plane_sums(pair, here, (shifts[b, 0], shifts[b, 1]), weights, i, plane)
        s = np.empty((SUMS, nk), fixed.dtype)
        rows = np.empty((5, nk), fixed.dtype)
        inverse, g = rows[3], rows[4]
        g[:] = 1
        total = 0.0
        for j in range(nj):
            _along_j(plane, weights[1], j, SUMS if masked else SUMS - 1, s)
            _invert(counts[2], counts[0][i] * counts[1][j], s[5], masked, inverse)
            if masked:
                g[:] = here[i, j]
            x = (b, i, j) if integrands.size > 0 else (0, 0, 0)
            abc = integrands[x[0], 0, x[1], x[2]], integrands[x[0], 1, x[1], x[2]]
            out = (abc[0], abc[1], integrands[x[0], 2, x[1], x[2]])
            total += _finish_row(s, setting, squared, rows, out)
        totals[b, i] = total


@device
def _integrand_plane(integrands, weights, i, plane):
    """plane[q, j] = the sums of a, b and c over the window's extent along i and k."""
    _, ni, nj, nk = integrands.shape
    wi, wk = weights[0], weights[2]
    ri, rk = wi.size // 2, wk.size // 2
    padded = np.zeros(nk + 2 * rk, plane.dtype)
    inner = padded[rk : rk + nk]
    for q in range(3):
        for j in range(nj):
            inner[:] = 0
            for t in range(max(0, ri - i), min(wi.size, ni + ri - i)):
                _add(integrands[q, i + t - ri, j], wi[t], inner)
            _filter_row(padded, wk, plane[q, j])


@kernel
def derivative(images, mask, shifts, weights, integrands, out):
    """out = m [F box(a) - W box(b) + box(c)]; arguments as in `correlate`."""
    fixed, warped = images
    n, ni, nj, nk = fixed.shape
    masked = mask.size > 0
    for part in prange(n * ni):
        b, i = np.int64(part) // ni, np.int64(part) % ni
        plane = np.empty((3, nj, nk), fixed.dtype)
        _integrand_plane(integrands[b], weights, i, plane)
        s = np.empty((3, nk), fixed.dtype)
        for j in range(nj):
            _along_j(plane, weights[1], j, 3, s)
            row, f, w = out[b, i, j], fixed[b, i, j], warped[b, i, j]
            x, y, sa, sb, sc = shifts[b, 0], shifts[b, 1], s[0], s[1], s[2]
            for k in range(nk):
                row[k] = (f[k] - x) * sa[k] - (w[k] - y) * sb[k] + sc[k]
            if masked:
                m = mask[b, i, j]
                for k in range(nk):
                    row[k] *= m[k]
