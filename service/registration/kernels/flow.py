"""Sample displacement fields with displacement fields: compose, integrate, resample, invert.

Vectors are world millimetres, interleaved (i, j, k, 3), float32. `maps` holds 3x4 matrices,
float64; each kernel says which. Indices are of voxels, integers at their centres.
"""

import numpy as np
from numba import prange

from service.registration.kernels.launch import device, kernel

ZERO, ONE, HALF = np.float32(0.0), np.float32(1.0), np.float32(0.5)


@device
def _bracket(position, count):
    """The voxel at or below a clamped position, the next one, and the share of the next one."""
    position = min(max(position, ZERO), np.float32(count - 1))
    lower = int(position)
    return lower, min(lower + 1, count - 1), np.float32(position - np.float32(lower))


@device
def _vector_at(field, i, j, k):
    """The field's vector at a fractional voxel index: linear, clamped."""
    i0, i1, wi = _bracket(i, field.shape[0])
    j0, j1, wj = _bracket(j, field.shape[1])
    k0, k1, wk = _bracket(k, field.shape[2])
    x = y = z = ZERO
    for a, wa in ((i0, ONE - wi), (i1, wi)):
        for b, wb in ((j0, ONE - wj), (j1, wj)):
            w0 = wa * wb * (ONE - wk)
            w1 = wa * wb * wk
            x += w0 * field[a, b, k0, 0] + w1 * field[a, b, k1, 0]
            y += w0 * field[a, b, k0, 1] + w1 * field[a, b, k1, 1]
            z += w0 * field[a, b, k0, 2] + w1 * field[a, b, k1, 2]
    return x, y, z


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
        _place_slab(field, maps, np.int64(i), out[i])


@device
def _compose_slab(outer, inner, maps, i, out):
    for j in range(out.shape[0]):
        for k in range(out.shape[1]):
            u, v, w = inner[j, k, 0], inner[j, k, 1], inner[j, k, 2]
            x, y, z = _turn(maps[1], u, v, w)
            a, b, c = _apply(maps[0], i, j, k)
            a, b, c = a + x, b + y, c + z
            if _is_inside(a, b, c, outer.shape):
                x, y, z = _vector_at(outer, a, b, c)
                u, v, w = u + x, v + y, w + z
            out[j, k, 0], out[j, k, 1], out[j, k, 2] = u, v, w


@kernel
def compose_fields(outer, inner, maps, out):
    """out(m) = u(m) + outer(maps[0] @ m + maps[1] @ u(m)), u being inner; outer is 0 outside."""
    for i in prange(out.shape[0]):
        _compose_slab(outer, inner[i], maps, np.int64(i), out[i])


@device
def _solve(field, back, target, start, limits):
    """The shift s with s = -back @ u(target + s), by iteration; and its last change, squared."""
    a, b, c = target
    x, y, z = start
    change = np.float32(np.inf)
    for _ in range(int(limits[0])):
        u, v, w = _turn(back, *_vector_at(field, a + x, b + y, c + z))
        change = (x + u) ** 2 + (y + v) ** 2 + (z + w) ** 2
        x, y, z = -u, -v, -w
        if change <= limits[1]:
            break
    return x, y, z, change


@device
def _invert_slab(field, maps, limits, i, out):
    worst = ZERO
    for j in range(out.shape[0]):
        x = y = z = ZERO
        for k in range(out.shape[1]):
            target = _apply(maps[0], i, j, k)
            x, y, z, change = _solve(field, maps[1], target, (x, y, z), limits)
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
    neighbour ended. Outside the field's grid its vectors are those of its border.
    """
    for i in prange(out.shape[0]):
        worst[i] = _invert_slab(field, maps, limits, np.int64(i), out[i])
