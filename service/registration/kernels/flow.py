"""Sample displacement fields with displacement fields: compose, resample.

Vectors are world millimetres, interleaved (i, j, k, 3), float32. `maps` holds 3x4 matrices,
float64; each kernel says which. Indices are of voxels, integers at their centres.
"""

import numpy as np

from service.registration.kernels.launch import device, kernel, prange
from service.registration.kernels.sampling import bracket, clamped, is_finite, is_inside

ONE_UP, TWO_UP = np.uint64(1), np.uint64(2)


@device
def _between(line, first, second, share):
    """Linear interpolation of two entries."""
    return line[first] + share * (line[second] - line[first])


@device
def _vector_at(field, i, j, k):
    """The field's vector at a fractional voxel index: linear, clamped.

    `field` is (line, shape): all entries in a row, addressed by hand, and what they are in.
    """
    line, (ni, nj, nk, _) = field
    i = clamped(i, np.float32(ni - 1))
    j = clamped(j, np.float32(nj - 1))
    k = clamped(k, np.float32(nk - 1))
    a, b, c = np.int32(i), np.int32(j), np.int32(k)
    wi, wj, wk = i - np.float32(a), j - np.float32(b), k - np.float32(c)
    p = np.uint64(3) * np.uint64((np.int64(a) * nj + b) * nk + c)
    down = p + np.uint64(3 * nj * nk if a < ni - 1 else 0)
    right = np.uint64(3 * nk if b < nj - 1 else 0)
    on = np.uint64(3 if c < nk - 1 else 0)
    return (
        _component(line, (p, down, right, on), (wi, wj, wk)),
        _component(line, (p + ONE_UP, down + ONE_UP, right, on), (wi, wj, wk)),
        _component(line, (p + TWO_UP, down + TWO_UP, right, on), (wi, wj, wk)),
    )


@device
def _component(line, places, shares):
    """One component of a vector: the eight entries around, blended along k, j, i."""
    p, down, right, on = places
    wi, wj, wk = shares
    a = _between(line, p, p + on, wk)
    b = _between(line, p + right, p + right + on, wk)
    c = _between(line, down, down + on, wk)
    d = _between(line, down + right, down + right + on, wk)
    a += wj * (b - a)
    c += wj * (d - c)
    return a + wi * (c - a)


@device
def _apply(m, i, j, k):
    """A 3x4 matrix at a voxel index, rounded to single precision last."""
    return (
        np.float32(m[0, 0] * i + m[0, 1] * j + m[0, 2] * k + m[0, 3]),
        np.float32(m[1, 0] * i + m[1, 1] * j + m[1, 2] * k + m[1, 3]),
        np.float32(m[2, 0] * i + m[2, 1] * j + m[2, 2] * k + m[2, 3]),
    )


@device
def _turn(m, x, y, z):
    """The linear part of a 3x4 matrix at a vector."""
    return (
        np.float32(m[0, 0]) * x + np.float32(m[0, 1]) * y + np.float32(m[0, 2]) * z,
        np.float32(m[1, 0]) * x + np.float32(m[1, 1]) * y + np.float32(m[1, 2]) * z,
        np.float32(m[2, 0]) * x + np.float32(m[2, 1]) * y + np.float32(m[2, 2]) * z,
    )


@device
def _is_aligned(to_field):
    """Whether a map of voxel indices keeps the axes apart."""
    m = to_field
    return (
        (m[0, 1] == 0)
        & (m[0, 2] == 0)
        & (m[1, 0] == 0)
        & (m[1, 2] == 0)
        & (m[2, 0] == 0)
        & (m[2, 1] == 0)
    )


@device
def _steps_along(to_field, count, length):
    """Where a row's voxels lie along a row of an aligned field: the entry below, and the share."""
    lower, share = np.empty(length, np.int64), np.empty(length, np.float32)
    for k in range(length):
        below, _, share[k] = bracket(to_field[2, 3] + to_field[2, 2] * k, count)
        lower[k] = 3 * below
    return lower, share


@device
def _blend_row(field, to_field, i, j, blended):
    """The row of an aligned field that an output row lies on, interpolated across i and j."""
    a, b, wi = bracket(to_field[0, 0] * i + to_field[0, 3], field.shape[0])
    c, d, wj = bracket(to_field[1, 1] * j + to_field[1, 3], field.shape[1])
    ac, ad, bc, bd = (
        field[a, c].ravel(),
        field[a, d].ravel(),
        field[b, c].ravel(),
        field[b, d].ravel(),
    )
    for n in range(blended.size):
        near = ac[n] + wj * (ad[n] - ac[n])
        far = bc[n] + wj * (bd[n] - bc[n])
        blended[n] = near + wi * (far - near)


@device
def _turn_row(m, row):
    """The linear part of a 3x4 matrix at each vector of a row, in place."""
    for n in range(0, row.size, 3):
        row[n], row[n + 1], row[n + 2] = _turn(m, row[n], row[n + 1], row[n + 2])


@device
def _place_aligned(field, maps, i, out):
    """`place` where the field's axes are the output's: a row at a time, without a search."""
    blended = np.empty(field.shape[2] * 3, np.float32)
    lower, share = _steps_along(maps[0], field.shape[2], out.shape[1])
    on = 3 if field.shape[2] > 1 else 0
    m = maps[2]
    p, q, r = np.float32(m[0, 2]), np.float32(m[1, 2]), np.float32(m[2, 2])
    for j in range(out.shape[0]):
        _blend_row(field, maps[0], i, j, blended)
        _turn_row(maps[1], blended)
        x, y, z = _apply(m, i, j, 0)
        row = out[j]
        for k in range(out.shape[1]):
            n, w, step = lower[k], share[k], np.float32(k)
            row[k, 0] = x + p * step + _between(blended, n, n + on, w)
            row[k, 1] = y + q * step + _between(blended, n + 1, n + on + 1, w)
            row[k, 2] = z + r * step + _between(blended, n + 2, n + on + 2, w)


@device
def _place_slab(field, maps, i, out):
    for j in range(out.shape[0]):
        for k in range(out.shape[1]):
            a, b, c = _apply(maps[0], i, j, k)
            u, v, w = _turn(maps[1], *_vector_at(field, a, b, c))
            x, y, z = _apply(maps[2], i, j, k)
            out[j, k, 0], out[j, k, 1], out[j, k, 2] = x + u, y + v, z + w


@kernel
def place(field, maps, out, finite):
    """out(m) = maps[2] @ m + maps[1] @ u(maps[0] @ m): a field on another grid, an affine added.

    Outside the field's grid its vectors are those of its border. finite[i]: whether slab i is.
    """
    for i in prange(out.shape[0]):
        if _is_aligned(maps[0]):
            _place_aligned(field, maps, np.int64(i), out[i])
        else:
            _place_slab((field.ravel(), field.shape), maps, np.int64(i), out[i])
        finite[i] = is_finite(out[i].reshape(-1))


@device
def _compose_slab(outer, inner, maps, i, out):
    for j in range(out.shape[0]):
        for k in range(out.shape[1]):
            u, v, w = inner[j, k, 0], inner[j, k, 1], inner[j, k, 2]
            x, y, z = _turn(maps[1], u, v, w)
            a, b, c = _apply(maps[0], i, j, k)
            a, b, c = a + x, b + y, c + z
            if is_inside(a, b, c, outer[1]):
                x, y, z = _vector_at(outer, a, b, c)
                u, v, w = u + x, v + y, w + z
            out[j, k, 0], out[j, k, 1], out[j, k, 2] = u, v, w


@kernel
def compose_fields(outer, inner, maps, out):
    """out(m) = u(m) + outer(maps[0] @ m + maps[1] @ u(m)), u being inner; outer is 0 outside."""
    for i in prange(out.shape[0]):
        _compose_slab((outer.ravel(), outer.shape), inner[i], maps, np.int64(i), out[i])
