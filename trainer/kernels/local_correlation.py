"""Local correlation of two images and its derivative, threaded.

With weights w of a window around x, counted over the mask m (see `trainer.losses.correlation`):
    n = sum w m,  mF = sum w m F / n,  cov = sum w m F W / n - mF mW,  vF, vW likewise plus a floor
    cc = (cov^2 + p) / (vF vW + q)          or, not squared, cov / sqrt(vF vW + q)
and with cc weighted by g(x) in the total, the derivative by W(y) gathers all windows that hold y:
    m(y) sum over x of w g [a (F(y) - mF) - b (W(y) - mW)] = m [F box(a) - W box(b) + box(c)]
    a = dcc/dcov / n,  b = -2 dcc/dvW / n,  c = b mW - a mF,  each times g
which is box filters again. The derivative by F is the same with the images changed over.

Three passes: products, filtered within each plane; filtered across planes, turned into a, b and c,
and these filtered across planes, by blocks of rows; these filtered within each plane, and joined
with the images. Between the passes a plane is one flat row, (nj * sk) long, each row of it with a
margin of zeros on both sides: so loops are long, contiguous, and their blocks stay in the cache.

Arrays are float32, or float64 for checks; images (n, ni, nj, nk), a 2-D image has ni = 1.
"""

import numpy as np
from numba import prange

from service.registration.kernels.launch import device, kernel

SUMS = 6  # of F, W, FF, WW, FW and the mask
BLOCK = 1024  # numbers that a filter takes at a time


@device
def _three_taps(x0, x1, x2, w, t, out):
    w0, w1, w2 = w[t], w[t + 1], w[t + 2]
    for k in range(out.size):
        out[k] = w0 * x0[k] + w1 * x1[k] + w2 * x2[k]


@device
def _two_more_taps(x0, x1, w, t, out):
    w0, w1 = w[t], w[t + 1]
    for k in range(out.size):
        out[k] += w0 * x0[k] + w1 * x1[k]


@device
def _scale(x, w, out):
    for k in range(out.size):
        out[k] = w * x[k]


@device
def _filter(x, step, w, out):
    """out[k] = sum over t of w[t] x[k + t * step]."""
    for start in range(0, out.size, BLOCK):
        end = min(start + BLOCK, out.size)
        part = out[start:end]
        if w.size == 1:
            _scale(x[start:end], w[0], part)
        else:
            a, b = x[start + step : end + step], x[start + 2 * step : end + 2 * step]
            _three_taps(x[start:end], a, b, w, 0, part)
        for t in range(3, w.size, 2):
            p, q = t * step, (t + 1) * step
            _two_more_taps(x[start + p : end + p], x[start + q : end + q], w, t, part)


@device
def _product(a, b, out):
    for k in range(out.size):
        out[k] = a[k] * b[k]


@device
def _pad(plane, shift, weights, out):
    """out = plane - shift with a margin of half a window on each side, as one row."""
    nj, nk = plane.shape
    rj, rk = weights[1].size // 2, weights[2].size // 2
    sk = nk + 2 * rk
    out[:] = 0
    for j in range(nj):
        first = (j + rj) * sk + rk
        row, source = out[first : first + nk], plane[j]
        for k in range(nk):
            row[k] = source[k] - shift


@device
def _within_plane(x, weights, sk, scratch, out):
    """Filter a padded plane along k, then j; out has the margin along k only, its values void."""
    rk = weights[2].size // 2
    inner = scratch[rk : scratch.size - rk]
    _filter(x, 1, weights[2], inner)
    _filter(scratch, sk, weights[1], out)


@kernel
def sum_products(images, mask, shifts, weights, sums):
    """First pass: sums (n, SUMS, ni, nj * sk) of F, W, FF, WW, FW and the mask within planes.

    Args:
        images: F and W, (n, ni, nj, nk).
        mask: (n, ni, nj, nk), or of no elements for none; its sum is then left as it is.
        shifts: (n, 2), subtracted from F and W; harmless unless voxels outside count as zeros.
        weights: Of the window along i, j, k, each of odd length.
        sums: What is filled.
    """
    fixed, warped = images
    n, ni, nj, nk = fixed.shape
    masked = mask.size > 0
    rj, rk = weights[1].size // 2, weights[2].size // 2
    sk = nk + 2 * rk
    for part in prange(n * ni):
        b, i = np.int64(part) // ni, np.int64(part) % ni
        planes = np.zeros((7, (nj + 2 * rj) * sk), fixed.dtype)
        x, y, m, mx, my, product = planes[0], planes[1], planes[2], planes[3], planes[4], planes[5]
        scratch, zero = planes[6], fixed.dtype.type(0)
        _pad(fixed[b, i], shifts[b, 0], weights, x)
        _pad(warped[b, i], shifts[b, 1], weights, y)
        if masked:
            _pad(mask[b, i], zero, weights, m)
            _product(m, x, mx)
            _product(m, y, my)
            _within_plane(m, weights, sk, scratch, sums[b, 5, i])
        else:
            mx, my = x, y
        _within_plane(mx, weights, sk, scratch, sums[b, 0, i])
        _within_plane(my, weights, sk, scratch, sums[b, 1, i])
        _product(mx, x, product)
        _within_plane(product, weights, sk, scratch, sums[b, 2, i])
        _product(my, y, product)
        _within_plane(product, weights, sk, scratch, sums[b, 3, i])
        _product(mx, y, product)
        _within_plane(product, weights, sk, scratch, sums[b, 4, i])


@device
def _block(planes, i, span, zeros):
    """A block of plane i; zeros beyond the first and the last one."""
    start, end = span
    return planes[i, start:end] if 0 <= i < planes.shape[0] else zeros[: end - start]


@device
def _across_planes(planes, i, span, w, zeros, out):
    """The weighted sum of a block over the planes around i."""
    r = w.size // 2
    if w.size == 1:
        _scale(_block(planes, i, span, zeros), w[0], out)
    else:
        a, b = _block(planes, i - r, span, zeros), _block(planes, i - r + 1, span, zeros)
        _three_taps(a, b, _block(planes, i - r + 2, span, zeros), w, 0, out)
    for t in range(3, w.size, 2):
        a, b = _block(planes, i - r + t, span, zeros), _block(planes, i - r + t + 1, span, zeros)
        _two_more_taps(a, b, w, t, out)


@device
def _moments(s, inverse, floor):
    """Sums become, in place: mean F, mean W, variance F, variance W (plus floor), covariance."""
    zero = s.dtype.type(0)
    f, w, ff, ww, fw = s[0], s[1], s[2], s[3], s[4]
    for k in range(inverse.size):
        f[k] *= inverse[k]
    for k in range(inverse.size):
        w[k] *= inverse[k]
    for k in range(inverse.size):
        ff[k] = max(ff[k] * inverse[k] - f[k] * f[k], zero) + floor
    for k in range(inverse.size):
        ww[k] = max(ww[k] * inverse[k] - w[k] * w[k], zero) + floor
    for k in range(inverse.size):
        fw[k] = fw[k] * inverse[k] - f[k] * w[k]


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
def _integrands(s, a, b, g, inverse, abc):
    """a, b and c of a block."""
    mf, mw, oa, ob, oc = s[0], s[1], abc[0], abc[1], abc[2]
    for k in range(g.size):
        oa[k] = a[k] * inverse[k] * g[k]
    for k in range(g.size):
        ob[k] = b[k] * inverse[k] * g[k]
    for k in range(g.size):
        oc[k] = ob[k] * mw[k] - oa[k] * mf[k]


@device
def _weighted_sum(cc, g):
    total = 0.0
    for k in range(cc.size):
        total += np.float64(cc[k] * g[k])
    return total


@device
def _place(counts, j0, nk, g, share):
    """g = 1 at the voxels of a block, 0 in the margins; share = g over the window's sum in j, k."""
    sk = counts[2].size
    g[:] = 0
    share[:] = 0
    r = (sk - nk) // 2
    for j in range(g.size // sk):
        for k in range(r, r + nk):
            g[j * sk + k] = 1
            share[j * sk + k] = 1 / (counts[1][j0 + j] * counts[2][k])


@device
def _invert(share, sums, ci, masked, inverse):
    """inverse = 1 / n; 0 where the window holds nothing."""
    zero, one = inverse.dtype.type(0), inverse.dtype.type(1)
    if masked:
        for k in range(inverse.size):
            inverse[k] = one / sums[k] if sums[k] > zero else zero
    else:
        _scale(share, one / ci, inverse)


@kernel
def correlate(sums, mask, window, setting, results):
    """Second pass: totals[n, block] = sums of g cc, and a, b, c summed across planes.

    The latter replace the first three of `sums`, where `integrands` is not of no elements.

    Args:
        sums: From `sum_products`.
        mask: As there; also g, which else is 1.
        window: (weights; their sums by index along i, j and, with margins, k, for where no mask is
            given; whether to square).
        setting: (p, q, floor).
        results: (integrands (n, 3, ni, nj * sk), scratch; totals (n, blocks) float64).
    """
    weights, counts, squared = window
    integrands, totals = results
    n, blocks = totals.shape
    ni, size, sk, nk = sums.shape[2], sums.shape[3], counts[2].size, mask.shape[3]
    masked, nj = mask.shape[0] > 0, size // sk
    rk, rows = (sk - nk) // 2, (nj + blocks - 1) // blocks
    for part in prange(n * blocks):
        b, j0 = np.int64(part) // blocks, (np.int64(part) % blocks) * rows
        span = (j0 * sk, min(j0 + rows, nj) * sk)
        length = max(span[1] - span[0], 0)
        s, more = np.zeros((SUMS, length), sums.dtype), np.zeros((7, length), sums.dtype)
        cc, a, c, inverse, g, share, zeros = (
            more[0], more[1], more[2], more[3], more[4], more[5], more[6],
        )  # fmt: skip
        if not masked:
            _place(counts, j0, nk, g, share)
        total = 0.0
        for i in range(ni if length > 0 else 0):
            for q in range(SUMS if masked else SUMS - 1):
                _across_planes(sums[b, q], i, span, weights[0], zeros, s[q])
            if masked:
                for j in range(length // sk):
                    g[j * sk + rk : j * sk + rk + nk] = mask[b, i, j0 + j]
            _invert(share, s[5], counts[0][i], masked, inverse)
            _moments(s, inverse, setting[2])
            _correlations(s, setting, squared, cc, a, c)
            total += _weighted_sum(cc, g)
            if integrands.size > 0:
                start, end = span
                abc = integrands[b, 0, i, start:end], integrands[b, 1, i, start:end]
                _integrands(s, a, c, g, inverse, (*abc, integrands[b, 2, i, start:end]))
        totals[b, np.int64(part) % blocks] = total
        for i in range(ni if integrands.size > 0 and length > 0 else 0):
            for q in range(3):
                out = sums[b, q, i, span[0] : span[1]]
                _across_planes(integrands[b, q], i, span, weights[0], zeros, out)


@device
def _pad_flat(flat, weights, sk, out):
    """Put a plane, whose margins along k are zeros, between margins along j."""
    r = weights[1].size // 2 * sk
    out[:r] = 0
    out[r + flat.size :] = 0
    out[r : r + flat.size] = flat


@kernel
def derivative(images, mask, shifts, weights, sums, out):
    """Third pass: out = m [F box(a) - W box(b) + box(c)], from what `correlate` left in `sums`."""
    fixed, warped = images
    n, ni, nj, nk = fixed.shape
    masked = mask.size > 0
    rj, rk = weights[1].size // 2, weights[2].size // 2
    sk = nk + 2 * rk
    for part in prange(n * ni):
        b, i = np.int64(part) // ni, np.int64(part) % ni
        planes = np.zeros((2, (nj + 2 * rj) * sk), fixed.dtype)
        box = np.empty((3, nj * sk), fixed.dtype)
        for q in range(3):
            _pad_flat(sums[b, q, i], weights, sk, planes[0])
            _within_plane(planes[0], weights, sk, planes[1], box[q])
        for j in range(nj):
            first = j * sk + rk
            row, f, w = out[b, i, j], fixed[b, i, j], warped[b, i, j]
            x, y = shifts[b, 0], shifts[b, 1]
            ba, bb = box[0, first : first + nk], box[1, first : first + nk]
            bc = box[2, first : first + nk]
            for k in range(nk):
                row[k] = (f[k] - x) * ba[k] - (w[k] - y) * bb[k] + bc[k]
            if masked:
                m = mask[b, i, j]
                for k in range(nk):
                    row[k] *= m[k]
