"""How a field stretches space, and a step that evens it out.

The determinant J of x -> x + u(x) says how much volume grows. Descent on a similarity makes it
rough: little volumes grow and shrink beside each other to follow noise. One step

    u += share * grad(g(J)),   g(J) = 3 (J^2 - 1) / (J^2 + 4 J + 1)

lets growth diffuse from where there is much to where there is little, as heat does, and leaves
alone what keeps volumes, such as turning, sliding and shear, which smoothing the field would blunt.
g is the logarithm of J to fourth order (within 0.001 from a half to twice, 0.05 from a fifth to
five times), as strict on shrinking as on growing, and bounded. It is smoothed before it is derived:
central differences do not see what alternates from voxel to voxel.

Fields are planes as in `kernels.descent`: float32 (3, ni, nj * nk), in voxels, with a margin of
MARGIN voxels that repeats the outermost inner ones.
"""

import numpy as np

from service.registration.kernels.launch import device, kernel, prange
from service.registration.kernels.planes import MARGIN, extend_plane

BLOCK = 512  # places of a plane whose differences stay in the nearest cache


@device
def _differences(field, i, places, nk, out):
    """out[3 q + a] = what component q changes by over two voxels along axis a, on plane i.

    At some of its places, from and to.
    """
    first, stop = places
    for q in range(3):
        u = field[q, i]
        after, before, row = field[q, i + 1, first:stop], field[q, i - 1, first:stop], out[3 * q]
        for t in range(after.size):
            row[t] = after[t] - before[t]
        after, before, row = u[first + nk : stop + nk], u[first - nk : stop - nk], out[3 * q + 1]
        for t in range(after.size):
            row[t] = after[t] - before[t]
        after, before, row = u[first + 1 : stop + 1], u[first - 1 : stop - 1], out[3 * q + 2]
        for t in range(after.size):
            row[t] = after[t] - before[t]


@device
def _growth_of(d, out):
    """out = g(J) from `_differences`; what is folded counts as shrunk to nothing."""
    one, half, zero = np.float32(1.0), np.float32(0.5), np.float32(0.0)
    three, four = np.float32(3.0), np.float32(4.0)
    ui, uj, uk, vi, vj, vk, wi, wj, wk = d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7], d[8]
    for t in range(out.size):
        a, b, c = one + half * ui[t], half * uj[t], half * uk[t]
        e, f, g = half * vi[t], one + half * vj[t], half * vk[t]
        h, k, m = half * wi[t], half * wj[t], one + half * wk[t]
        found = a * (f * m - g * k) - b * (e * m - g * h) + c * (e * k - f * h)
        found = max(found, zero)
        squared = found * found
        out[t] = three * (squared - one) / (squared + four * found + one)


@device
def _blur(x, nk, scratch, out):
    """Weights 1/4, 1/2, 1/4 along k, then j; the ends stay as they are."""
    half, quarter = np.float32(0.5), np.float32(0.25)
    n = x.size - 2
    before, after, row = x[:n], x[2:], scratch[1 : n + 1]
    scratch[0], scratch[n + 1] = x[0], x[n + 1]
    middle = x[1 : n + 1]
    for t in range(n):
        row[t] = half * middle[t] + quarter * (before[t] + after[t])
    n = x.size - 2 * nk
    before, after, row = scratch[:n], scratch[2 * nk :], out[nk : n + nk]
    out[:nk] = scratch[:nk]
    out[n + nk :] = scratch[n + nk :]
    middle = scratch[nk : n + nk]
    for t in range(n):
        row[t] = half * middle[t] + quarter * (before[t] + after[t])


@kernel
def growth(field, nk, out):
    """out = g(J), smoothed along j and k, on the planes that are no margin."""
    _, ni, size = field.shape
    for i in prange(MARGIN, ni - MARGIN):
        found, scratch = np.empty(size, np.float32), np.empty(size, np.float32)
        differences = np.empty((9, BLOCK), np.float32)
        for first in range(nk, size - nk, BLOCK):
            stop = min(first + BLOCK, size - nk)
            _differences(field, i, (first, stop), nk, differences)
            _growth_of(differences, found[first:stop])
        extend_plane(found, nk)
        _blur(found, nk, scratch, out[i])


@device
def _add_gradient(g, i, scale, nk, field):
    """Add scale times the gradient of g, smoothed along i, to plane i."""
    half, quarter, two = np.float32(0.5), np.float32(0.25), np.float32(2.0)
    last = g.shape[0] - MARGIN - 1
    p0, p1, p2 = g[max(i - 2, MARGIN)], g[max(i - 1, MARGIN)], g[i]
    p3, p4 = g[min(i + 1, last)], g[min(i + 2, last)]
    size, s, u = p2.size, half * quarter * scale[0], field[0, i]
    for t in range(size):
        u[t] += s * (p4[t] - p0[t] + two * (p3[t] - p1[t]))
    smooth = np.empty(size, np.float32)
    for t in range(size):
        smooth[t] = half * p2[t] + quarter * (p1[t] + p3[t])
    n, s = size - 2 * nk, half * scale[1]
    before, after, v = smooth[:n], smooth[2 * nk :], field[1, i, nk : n + nk]
    for t in range(n):
        v[t] += s * (after[t] - before[t])
    n, s = size - 2, half * scale[2]
    before, after, w = smooth[:n], smooth[2:], field[2, i, 1 : n + 1]
    for t in range(n):
        w[t] += s * (after[t] - before[t])


@kernel
def even_out(g, scale, nk, field):
    """field += scale * grad(g), per axis, with `growth`'s g; the margin repeats the inside again.

    `scale`: (3,), the share times 1 / spacing^2 by axis, relative to the finest.
    """
    _, ni, _ = field.shape
    for i in prange(MARGIN, ni - MARGIN):
        _add_gradient(g, np.int64(i), scale, nk, field)
        for q in range(3):
            extend_plane(field[q, i], nk)
    for q in range(3):
        for e in range(MARGIN):
            field[q, e] = field[q, MARGIN]
            field[q, ni - 1 - e] = field[q, ni - 1 - MARGIN]
