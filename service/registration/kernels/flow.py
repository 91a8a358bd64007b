"""Sample displacement fields with displacement fields: compose, integrate, resample, invert.

Vectors are world millimetres, interleaved (i, j, k, 3), float32. `maps` holds 3x4 matrices,
float64; each kernel says which. Indices are of voxels, integers at their centres.
"""

import numpy as np
from numba import prange

from service.registration.kernels.launch import device, kernel

ZERO, QUARTER, HALF = np.float32(0.0), np.float32(0.25), np.float32(0.5)
ONE, TWO = np.float32(1.0), np.float32(2.0)
ONE_UP, TWO_UP = np.uint64(1), np.uint64(2)

# Inverting: after so many steps of the fixed point it does not converge, or hardly.
FIXED_POINT_STEPS = 12
LONGEST_STEP = np.float32(2.0)  # voxels
SMALLEST_VOLUME = np.float32(0.02)  # of a voxel after the map; smaller ones are nearly folded


@device
def _clamped(position, last):
    """A position within [0, last], NaN as 0; written so that it becomes two instructions."""
    position = position if position > ZERO else ZERO
    return position if position < last else last


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
    i = _clamped(i, np.float32(ni - 1))
    j = _clamped(j, np.float32(nj - 1))
    k = _clamped(k, np.float32(nk - 1))
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
def _is_inside(i, j, k, shape):
    return (
        (i >= -HALF)
        & (i <= np.float32(shape[0]) - HALF)
        & (j >= -HALF)
        & (j <= np.float32(shape[1]) - HALF)
        & (k >= -HALF)
        & (k <= np.float32(shape[2]) - HALF)
    )


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
def _place_slab(field, maps, i, out):
    for j in range(out.shape[0]):
        for k in range(out.shape[1]):
            a, b, c = _apply(maps[0], i, j, k)
            u, v, w = _turn(maps[1], *_vector_at(field, a, b, c))
            x, y, z = _apply(maps[2], i, j, k)
            out[j, k, 0], out[j, k, 1], out[j, k, 2] = x + u, y + v, z + w


@kernel
def place(field, maps, out):
    """out(m) = maps[2] @ m + maps[1] @ u(maps[0] @ m): a field on another grid, an affine added.

    Outside the field's grid its vectors are those of its border.
    """
    for i in prange(out.shape[0]):
        _place_slab((field.ravel(), field.shape), maps, np.int64(i), out[i])


@device
def _compose_slab(outer, inner, maps, i, out):
    for j in range(out.shape[0]):
        for k in range(out.shape[1]):
            u, v, w = inner[j, k, 0], inner[j, k, 1], inner[j, k, 2]
            x, y, z = _turn(maps[1], u, v, w)
            a, b, c = _apply(maps[0], i, j, k)
            a, b, c = a + x, b + y, c + z
            if _is_inside(a, b, c, outer[1]):
                x, y, z = _vector_at(outer, a, b, c)
                u, v, w = u + x, v + y, w + z
            out[j, k, 0], out[j, k, 1], out[j, k, 2] = u, v, w


@kernel
def compose_fields(outer, inner, maps, out):
    """out(m) = u(m) + outer(maps[0] @ m + maps[1] @ u(m)), u being inner; outer is 0 outside."""
    for i in prange(out.shape[0]):
        _compose_slab((outer.ravel(), outer.shape), inner[i], maps, np.int64(i), out[i])


@device
def _edge(field, back, place, axis):
    """How s + back @ u(target + s) changes when s goes one voxel along an axis, at a place."""
    i, j, k = place
    di, dj, dk = np.float32(axis == 0), np.float32(axis == 1), np.float32(axis == 2)
    ahead = _vector_at(field, i + QUARTER * di, j + QUARTER * dj, k + QUARTER * dk)
    behind = _vector_at(field, i - QUARTER * di, j - QUARTER * dj, k - QUARTER * dk)
    x, y, z = _turn(
        back,
        TWO * (ahead[0] - behind[0]),
        TWO * (ahead[1] - behind[1]),
        TWO * (ahead[2] - behind[2]),
    )
    return x + di, y + dj, z + dk


@device
def _cross(a, b):
    return (
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    )


@device
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@device
def _newton_step(field, back, place, miss):
    """The step that would undo a miss, were the field linear there; at most LONGEST_STEP."""
    p = _edge(field, back, place, 0)
    q = _edge(field, back, place, 1)
    r = _edge(field, back, place, 2)
    qr, rp, pq = _cross(q, r), _cross(r, p), _cross(p, q)
    volume = max(_dot(p, qr), SMALLEST_VOLUME)
    step = _dot(miss, qr) / volume, _dot(miss, rp) / volume, _dot(miss, pq) / volume
    length = np.sqrt(_dot(step, step))
    share = LONGEST_STEP / length if length > LONGEST_STEP else ONE
    return step[0] * share, step[1] * share, step[2] * share


@device
def _solve(field, back, target, start, limits):
    """The shift s with s = -back @ u(target + s), and by how much it last missed, squared.

    A few steps of the fixed point, which is quick where neighbours move alike; then Newton's, which
    also finds its way where they are torn apart or pressed together.
    """
    a, b, c = target
    x, y, z = start
    change = np.float32(np.inf)
    for step in range(int(limits[0])):
        u, v, w = _turn(back, *_vector_at(field, a + x, b + y, c + z))
        miss = x + u, y + v, z + w
        change = _dot(miss, miss)
        if step < FIXED_POINT_STEPS:
            x, y, z = -u, -v, -w
        else:
            d, e, f = _newton_step(field, back, (a + x, b + y, c + z), miss)
            x, y, z = x - d, y - e, z - f
        if change <= limits[1]:
            break
    return x, y, z, change


@device
def _invert_slab(field, maps, limits, i, out):
    worst = ZERO
    first = (ZERO, ZERO, ZERO)  # of the row before
    for j in range(out.shape[0]):
        x, y, z = first
        before = first
        for k in range(out.shape[1]):
            target = _apply(maps[0], i, j, k)
            start = (TWO * x - before[0], TWO * y - before[1], TWO * z - before[2])
            before = (x, y, z)
            x, y, z, change = _solve(field, maps[1], target, start, limits)
            if k == 0:
                first, before = (x, y, z), (x, y, z)
            worst = max(worst, change)
            a, b, c = _apply(maps[3], i, j, k)
            u, v, w = _turn(maps[2], x, y, z)
            out[j, k, 0], out[j, k, 1], out[j, k, 2] = a + u, b + v, c + w
    return worst


@kernel
def invert_field(field, maps, limits, out, worst):
    """The displacements of the inverse of x + u(x), after an affine.

    maps: output index to field index; vector to field index; field index to vector; output index to
    the affine's displacement. limits: most iterations, squared change at which to stop, in voxels
    of the field. worst: for each slab the largest last change, squared. Each voxel starts where its
    row is heading. Outside the field's grid its vectors are those of its border.
    """
    for i in prange(out.shape[0]):
        worst[i] = _invert_slab((field.ravel(), field.shape), maps, limits, np.int64(i), out[i])


@kernel
def invert_at(field, to_index, limits, targets, out):
    """The shifts s of points for which s + to_index @ u(target + s) is 0, all in field indices.

    targets: (n, 3) float64; limits as in `invert_field`. Outside the field's grid its vectors are
    those of its border.
    """
    for n in prange(targets.shape[0]):
        target = np.float32(targets[n, 0]), np.float32(targets[n, 1]), np.float32(targets[n, 2])
        start = (ZERO, ZERO, ZERO)
        x, y, z, _ = _solve((field.ravel(), field.shape), to_index, target, start, limits)
        out[n, 0], out[n, 1], out[n, 2] = x, y, z
