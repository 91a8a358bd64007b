"""Sample a volume where a field points: the kernels behind `warp` and `resample`.

Each output row (i, j, :) first gets the moving indices of its voxels, then their values, both in
buffers that stay in the first-level cache. A moving index is

    maps[1] @ (i, j, k, 1) + maps[2] @ u(maps[0] @ (i, j, k, 1))

with u between its own voxels linear, beyond them clamped. `how` says what the field looks like from
the output grid: NO_FIELD, SAME_GRID, ALIGNED (same axes, another spacing), or ANYWHERE.

A sample is inside when its moving index is in [-0.5, n - 0.5] along each axis; it is then clamped
to [0, n - 1]; else, and when the index is NaN, it gets the fill value. That is ITK's rule.

Every kernel takes `path = (field, maps, how)`: float32 (i, j, k, 3), float64 (3, 3, 4), int.
"""

import numpy as np

from service.registration.kernels.launch import device, kernel, prange
from service.registration.kernels.sampling import clamped, is_inside, linear_row, lower_corners

LANES, PARTS = 64, 32

NO_FIELD, SAME_GRID, ALIGNED, ANYWHERE = 0, 1, 2, 3

ZERO, HALF, ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)
NEXT, AFTER_NEXT, VECTOR = np.uint64(1), np.uint64(2), np.uint64(3)


@device
def neighbours(position, count):
    """The voxel at or below a clamped position, the next one, and the share of the next one."""
    position = min(max(position, 0.0), count - 1.0)
    lower = int(position)
    return lower, min(lower + 1, count - 1), np.float32(position - lower)


@device
def padded(length):
    """Room for a row in whole runs of SIMD lanes; what is left over would be done one by one."""
    return (length + LANES - 1) // LANES * LANES


@device
def _turn_row(line, start, length, turn, rows):
    """World vectors, from an entry of a line on, to moving-index vectors: rows[0, axis, 0, k].

    A line, so that the compiler knows how far apart vectors lie: it then takes several at once.
    Here and below rows are indexed in place: a view of one costs more than its arithmetic.
    """
    a, b, c = np.float32(turn[0, 0]), np.float32(turn[0, 1]), np.float32(turn[0, 2])
    d, e, f = np.float32(turn[1, 0]), np.float32(turn[1, 1]), np.float32(turn[1, 2])
    g, h, q = np.float32(turn[2, 0]), np.float32(turn[2, 1]), np.float32(turn[2, 2])
    for k in range(length):
        n = np.uint64(start) + VECTOR * np.uint64(k)
        x, y, z = line[n], line[n + NEXT], line[n + AFTER_NEXT]
        rows[0, 0, 0, k] = a * x + b * y + c * z
        rows[0, 1, 0, k] = d * x + e * y + f * z
        rows[0, 2, 0, k] = g * x + h * y + q * z


@device
def _steps_along(to_field, count, length):
    """Where the voxels of an output row lie along a field row: the voxel below, and the share."""
    lower, share = np.empty(length, np.uint32), np.empty(length, np.float32)
    for k in range(length):
        below, _, weight = neighbours(to_field[2, 3] + to_field[2, 2] * k, count)
        lower[k] = min(below, max(count - 2, 0))
        share[k] = weight + np.float32(below - lower[k])
    return lower, share


@device
def _stretch(turned, lower, share, plane, j):
    """A row of the field's voxels to one of the output's."""
    step = np.uint32(min(turned.shape[3] - 1, 1))
    for k in range(lower.size):
        n, w = lower[k], share[k]
        for axis in range(3):
            first = turned[0, axis, 0, n]
            plane[axis, j, k] = first + w * (turned[0, axis, 0, n + step] - first)


@device
def _vector_at(field, i, j, k):
    """The field's vector at a fractional voxel index: linear, clamped."""
    i0, i1, wi = neighbours(i, field.shape[0])
    j0, j1, wj = neighbours(j, field.shape[1])
    k0, k1, wk = neighbours(k, field.shape[2])
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
def _gather_row(field, field_map, i, j, gathered):
    """The vectors of an output row whose voxels lie anywhere in the field, as a line."""
    m = field_map
    for k in range(gathered.size // 3):
        gathered[3 * k], gathered[3 * k + 1], gathered[3 * k + 2] = _vector_at(
            field,
            m[0, 0] * i + m[0, 1] * j + m[0, 2] * k + m[0, 3],
            m[1, 0] * i + m[1, 1] * j + m[1, 2] * k + m[1, 3],
            m[2, 0] * i + m[2, 1] * j + m[2, 2] * k + m[2, 3],
        )


@device
def workspace_for(path, length):
    """Room for one thread: a field row, the same turned, how to stretch it, and two slabs of them.

    A slab of the field is stretched once and serves all output slabs that it neighbours; `held`
    says which ones are there. With them goes the field as a line.
    """
    field, maps, how = path
    steps = _steps_along(maps[0], field.shape[2], length)
    wide = field.shape[2] if how == ALIGNED else length
    rows = field.shape[1] if how == ALIGNED else 1
    gathered, turned = np.empty(3 * length, np.float32), np.empty((1, 3, 1, wide), np.float32)
    held = np.full(2, -1, np.int64)
    planes = np.zeros((2, 3, rows, padded(length)), np.float32)
    return (field.ravel(), gathered, turned, steps), planes, held


@device
def _row_of(field, i, j):
    """Where a row of a field begins in its line."""
    return 3 * (i * field.shape[1] + j) * field.shape[2]


@device
def _stretch_slab(path, i, workspace):
    """Make sure that slab i of the field is held, each row stretched to the output's."""
    field, maps, _ = path
    (line, _, turned, (lower, share)), planes, held = workspace
    if held[i % 2] == i:
        return
    held[i % 2] = i
    for j in range(field.shape[1]):
        _turn_row(line, _row_of(field, i, j), field.shape[2], maps[2], turned)
        _stretch(turned, lower, share, planes[i % 2], j)


@device
def start_slab(path, i, workspace):
    """Prepare for output slab i."""
    field, maps, how = path
    if how == ALIGNED:
        below, above, _ = neighbours(maps[0, 0, 0] * i + maps[0, 0, 3], field.shape[0])
        _stretch_slab(path, below, workspace)
        _stretch_slab(path, above, workspace)


@device
def _rows_around(path, i, j, workspace):
    """Slabs and rows of `planes` that output row (i, j) lies between, and the shares of the second.

    Only an upsampled field has two; else the one row is made here.
    """
    field, maps, how = path
    (line, gathered, _, _), planes, _ = workspace
    if how == ALIGNED:
        a, b, wi = neighbours(maps[0, 0, 0] * i + maps[0, 0, 3], field.shape[0])
        c, d, wj = neighbours(maps[0, 1, 1] * j + maps[0, 1, 3], field.shape[1])
        return (a % 2, b % 2, wi), (c, d, wj)
    if how == SAME_GRID:
        _turn_row(line, _row_of(field, i, j), field.shape[2], maps[2], planes)
    elif how == ANYWHERE:
        _gather_row(field, maps[0], i, j, gathered)
        _turn_row(gathered, 0, gathered.size // 3, maps[2], planes)
    return (0, 0, ZERO), (0, 0, ZERO)


@device
def _row_start(to_moving, i, j):
    """Moving index of the first voxel of a row without a field, and the step to the next."""
    m = to_moving
    return (
        (
            np.float32(m[0, 0] * i + m[0, 1] * j + m[0, 3]),
            np.float32(m[1, 0] * i + m[1, 1] * j + m[1, 3]),
            np.float32(m[2, 0] * i + m[2, 1] * j + m[2, 3]),
        ),
        (np.float32(m[0, 2]), np.float32(m[1, 2]), np.float32(m[2, 2])),
    )


@device
def locate_row(path, i, j, workspace, at):
    """The moving indices of output row (i, j)."""
    planes = workspace[1]
    (a, b, wi), (c, d, wj) = _rows_around(path, i, j, workspace)
    start, step = _row_start(path[1][1], i, j)
    for axis in range(3):
        origin, slope = start[axis], step[axis]
        for k in range(at.shape[1]):
            first = planes[a, axis, c, k]
            first += wj * (planes[a, axis, d, k] - first)
            second = planes[b, axis, c, k]
            second += wj * (planes[b, axis, d, k] - second)
            step_k = slope * np.float32(np.int32(k))  # 64-bit: one by one without AVX-512
            at[axis, k] = origin + step_k + (first + wi * (second - first))


@device
def split(at, length, shape, corner, shares):
    """Each clamped sample's lower corner in memory, and its shares of the upper neighbours.

    Over the row's padding too: loops over whole runs of SIMD lanes have no slow remainder.

    Gives whether any is outside: more than half a voxel from where it is clamped to, or NaN.
    """
    is_any_outside, count = False, np.int32(length)
    ni, nj, nk = np.int32(shape[0] - 1), np.int32(shape[1] - 1), np.int32(shape[2] - 1)
    top = np.int32(max(ni - 1, 0)), np.int32(max(nj - 1, 0)), np.int32(max(nk - 1, 0))
    stride_i, stride_j = np.int32(shape[1] * shape[2]), np.int32(shape[2])
    for n in range(corner.size):
        x = clamped(at[0, n], np.float32(ni))
        y = clamped(at[1, n], np.float32(nj))
        z = clamped(at[2, n], np.float32(nk))
        i, j, k = min(np.int32(x), top[0]), min(np.int32(y), top[1]), min(np.int32(z), top[2])
        shares[0, n], shares[1, n] = x - np.float32(i), y - np.float32(j)
        shares[2, n] = z - np.float32(k)
        near = (abs(at[0, n] - x) <= HALF) & (abs(at[1, n] - y) <= HALF)
        near &= abs(at[2, n] - z) <= HALF
        is_any_outside |= (not near) & (np.int32(n) < count)
        corner[n] = np.uint32(np.int32(np.int32(i * stride_i) + np.int32(j * stride_j)) + k)
    return is_any_outside


@device
def fill_outside(at, shape, fill, row):
    out, i, j = row
    for k in range(out.shape[2]):
        if not is_inside(at[0, k], at[1, k], at[2, k], shape):
            out[i, j, k] = fill


@device
def samples(length):
    """Room for a row's moving indices, its shares of upper neighbours, and its lower corners."""
    at, shares = (
        np.empty((3, padded(length)), np.float32),
        np.empty((3, padded(length)), np.float32),
    )
    return at, shares, np.empty(padded(length), np.uint32)


@device
def _linear_slabs(moving, path, fill, slabs, out):
    length = out.shape[2]
    workspace, corners = workspace_for(path, length), lower_corners(moving)
    at, shares, corner = samples(length)
    for i in range(slabs[0], slabs[1]):
        start_slab(path, i, workspace)
        for j in range(out.shape[1]):
            locate_row(path, i, j, workspace, at)
            is_any_outside = split(at, length, moving.shape, corner, shares)
            linear_row(corners, corner, shares, (out, i, j))
            if is_any_outside:
                fill_outside(at, moving.shape, fill, (out, i, j))


@device
def part_of(part, parts, count):
    """The slabs that one part of the work takes."""
    return np.int64(part) * count // parts, (np.int64(part) + 1) * count // parts


@kernel
def pull_linear(moving, path, fill, out):
    """Trilinear; moving, fill and out are float32."""
    parts = min(PARTS, out.shape[0])
    for part in prange(parts):
        _linear_slabs(moving, path, fill, part_of(part, parts, out.shape[0]), out)
