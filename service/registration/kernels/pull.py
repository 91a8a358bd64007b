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
from numba import prange

from service.registration.kernels.launch import device, kernel

NO_FIELD, SAME_GRID, ALIGNED, ANYWHERE = 0, 1, 2, 3

ZERO, HALF, ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)


@device
def _bracket(position, count):
    """The voxel at or below a clamped position, the next one, and the share of the next one."""
    position = min(max(position, 0.0), count - 1.0)
    lower = int(position)
    return lower, min(lower + 1, count - 1), np.float32(position - lower)


@device
def _blend(first, second, share, out):
    for n in range(out.size):
        out[n] = first[n] + share * (second[n] - first[n])


@device
def _brackets(scale, start, count, lower, share):
    """Where each voxel of an output row lies between the voxels of a field row."""
    for k in range(lower.size):
        below, _, weight = _bracket(start + scale * k, count)
        lower[k] = min(below, max(count - 2, 0))
        share[k] = weight + np.float32(below - lower[k])


@device
def _turn_row(row, vector_map, turned):
    """World vectors of one field row to moving-index vectors, one array for each axis."""
    for axis in range(3):
        a = np.float32(vector_map[axis, 0])
        b = np.float32(vector_map[axis, 1])
        c = np.float32(vector_map[axis, 2])
        for k in range(turned.shape[1]):
            turned[axis, k] = a * row[3 * k] + b * row[3 * k + 1] + c * row[3 * k + 2]


@device
def _start_row(moving_map, i, j, at):
    """Moving indices of a row without a field."""
    for axis in range(3):
        step = np.float32(moving_map[axis, 2])
        start = np.float32(moving_map[axis, 0] * i + moving_map[axis, 1] * j + moving_map[axis, 3])
        for k in range(at.shape[1]):
            at[axis, k] = start + step * np.float32(k)


@device
def _add_row(turned, at):
    for axis in range(3):
        for k in range(at.shape[1]):
            at[axis, k] += turned[axis, k]


@device
def _add_upsampled(turned, lower, share, at):
    step = np.uint32(min(turned.shape[1] - 1, 1))
    for axis in range(3):
        row = turned[axis]
        for k in range(at.shape[1]):
            first = row[lower[k]]
            at[axis, k] += first + share[k] * (row[lower[k] + step] - first)


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
def _gather_row(field, field_map, i, j, row):
    """The vectors of an output row whose voxels lie anywhere in the field."""
    m = field_map
    for k in range(row.size // 3):
        row[3 * k], row[3 * k + 1], row[3 * k + 2] = _vector_at(
            field,
            m[0, 0] * i + m[0, 1] * j + m[0, 2] * k + m[0, 3],
            m[1, 0] * i + m[1, 1] * j + m[1, 2] * k + m[1, 3],
            m[2, 0] * i + m[2, 1] * j + m[2, 2] * k + m[2, 3],
        )


@device
def _field_plane(path, i):
    """The field's rows at output slab i: (rows, 3 * row length)."""
    field, maps, how = path
    rows = field.reshape(field.shape[0], field.shape[1], field.shape[2] * 3)
    if how != ALIGNED:
        return rows[min(i, field.shape[0] - 1)]
    below, above, share = _bracket(maps[0, 0, 0] * i + maps[0, 0, 3], field.shape[0])
    plane = np.empty((rows.shape[1], rows.shape[2]), np.float32)
    _blend(rows[below].ravel(), rows[above].ravel(), share, plane.ravel())
    return plane


@device
def _locate_row(path, plane, i, j, buffers, at):
    """The moving indices of an output row."""
    field, maps, how = path
    _start_row(maps[1], i, j, at)
    row, turned, lower, share = buffers
    if how == ALIGNED:
        below, above, weight = _bracket(maps[0, 1, 1] * j + maps[0, 1, 3], plane.shape[0])
        _blend(plane[below], plane[above], weight, row)
        _turn_row(row, maps[2], turned)
        _add_upsampled(turned, lower, share, at)
    elif how == SAME_GRID:
        _turn_row(plane[j], maps[2], turned)
        _add_row(turned, at)
    elif how == ANYWHERE:
        _gather_row(field, maps[0], i, j, row)
        _turn_row(row, maps[2], turned)
        _add_row(turned, at)


@device
def _row_buffers(path, length):
    """Room for one row's vectors, and where its voxels lie along the field's row."""
    field, maps, how = path
    count = field.shape[2] if how == ALIGNED else length
    lower = np.empty(length, np.uint32)
    share = np.empty(length, np.float32)
    _brackets(maps[0, 2, 2], maps[0, 2, 3], field.shape[2], lower, share)
    return np.empty(3 * count, np.float32), np.empty((3, count), np.float32), lower, share


@device
def _all_interior(at, shape):
    """Whether every sample of a row has all its eight neighbours."""
    outside = 0
    for axis in range(3):
        last = np.float32(shape[axis] - 1)
        for k in range(at.shape[1]):
            # A NaN fails both comparisons, so ask for what must hold.
            outside |= not ((at[axis, k] >= ZERO) & (at[axis, k] < last))
    return outside == 0


@device
def _linear_interior(moving, at, out):
    """Trilinear values of a row that needs no border."""
    flat = moving.ravel()
    nj, nk = np.int32(moving.shape[1]), np.int32(moving.shape[2])
    for k in range(out.size):
        i0, j0, k0 = np.int32(at[0, k]), np.int32(at[1, k]), np.int32(at[2, k])
        wi, wj, wk = at[0, k] - np.float32(i0), at[1, k] - np.float32(j0), at[2, k] - np.float32(k0)
        n = np.uint32((i0 * nj + j0) * nk + k0)
        down = np.uint32(n + np.uint32(nj * nk))
        a = flat[n] + wk * (flat[n + 1] - flat[n])
        n += np.uint32(nk)
        b = flat[n] + wk * (flat[n + 1] - flat[n])
        c = flat[down] + wk * (flat[down + 1] - flat[down])
        down += np.uint32(nk)
        d = flat[down] + wk * (flat[down + 1] - flat[down])
        a += wj * (b - a)
        c += wj * (d - c)
        out[k] = a + wi * (c - a)


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
def _linear_at_border(moving, at, fill, out):
    """Trilinear values of a row, each sample tested and clamped."""
    for k in range(out.size):
        if not _is_inside(at[0, k], at[1, k], at[2, k], moving.shape):
            out[k] = fill
            continue
        i0, i1, wi = _bracket(at[0, k], moving.shape[0])
        j0, j1, wj = _bracket(at[1, k], moving.shape[1])
        k0, k1, wk = _bracket(at[2, k], moving.shape[2])
        a = moving[i0, j0, k0] + wk * (moving[i0, j0, k1] - moving[i0, j0, k0])
        b = moving[i0, j1, k0] + wk * (moving[i0, j1, k1] - moving[i0, j1, k0])
        c = moving[i1, j0, k0] + wk * (moving[i1, j0, k1] - moving[i1, j0, k0])
        d = moving[i1, j1, k0] + wk * (moving[i1, j1, k1] - moving[i1, j1, k0])
        a += wj * (b - a)
        c += wj * (d - c)
        out[k] = a + wi * (c - a)


@device
def _linear_slab(moving, path, fill, i, out):
    buffers = _row_buffers(path, out.shape[1])
    plane = _field_plane(path, i)
    at = np.empty((3, out.shape[1]), np.float32)
    for j in range(out.shape[0]):
        _locate_row(path, plane, i, j, buffers, at)
        if _all_interior(at, moving.shape):
            _linear_interior(moving, at, out[j])
        else:
            _linear_at_border(moving, at, fill, out[j])


@kernel
def pull_linear(moving, path, fill, out):
    """Trilinear; moving, fill and out are float32."""
    for i in prange(out.shape[0]):
        _linear_slab(moving, path, fill, np.int64(i), out[i])


@device
def _nearest_slab(moving, path, fill, i, out):
    buffers = _row_buffers(path, out.shape[1])
    plane = _field_plane(path, i)
    at = np.empty((3, out.shape[1]), np.float32)
    for j in range(out.shape[0]):
        _locate_row(path, plane, i, j, buffers, at)
        for k in range(out.shape[1]):
            if _is_inside(at[0, k], at[1, k], at[2, k], moving.shape):
                a = min(int(at[0, k] + HALF), moving.shape[0] - 1)
                b = min(int(at[1, k] + HALF), moving.shape[1] - 1)
                c = min(int(at[2, k] + HALF), moving.shape[2] - 1)
                out[j, k] = moving[a, b, c]
            else:
                out[j, k] = fill


@kernel
def pull_nearest(moving, path, fill, out):
    """Nearest voxel, halves up as ITK has it; moving, fill and out of one unsigned type."""
    for i in prange(out.shape[0]):
        _nearest_slab(moving, path, fill, np.int64(i), out[i])


@device
def _label_shares(moving, at, k, labels, shares):
    """The eight labels around a sample and their trilinear weights."""
    i0, i1, wi = _bracket(at[0, k], moving.shape[0])
    j0, j1, wj = _bracket(at[1, k], moving.shape[1])
    k0, k1, wk = _bracket(at[2, k], moving.shape[2])
    n = 0
    for a, wa in ((i0, ONE - wi), (i1, wi)):
        for b, wb in ((j0, ONE - wj), (j1, wj)):
            labels[n], shares[n] = moving[a, b, k0], wa * wb * (ONE - wk)
            labels[n + 1], shares[n + 1] = moving[a, b, k1], wa * wb * wk
            n += 2


@device
def _largest_label(labels, shares):
    """The label with the largest total; of equals the lowest."""
    best, most = labels[0], -ONE
    for n in range(8):
        total = ZERO
        for m in range(8):
            if labels[m] == labels[n]:
                total += shares[m]
        if total > most or (total == most and labels[n] < best):
            best, most = labels[n], total
    return best


@device
def _label_slab(moving, path, i, out):
    buffers = _row_buffers(path, out.shape[1])
    plane = _field_plane(path, i)
    at = np.empty((3, out.shape[1]), np.float32)
    labels, shares = np.empty(8, np.uint16), np.empty(8, np.float32)
    for j in range(out.shape[0]):
        _locate_row(path, plane, i, j, buffers, at)
        for k in range(out.shape[1]):
            out[j, k] = 0
            if _is_inside(at[0, k], at[1, k], at[2, k], moving.shape):
                _label_shares(moving, at, k, labels, shares)
                out[j, k] = labels[0]
                if (labels != labels[0]).any():
                    out[j, k] = _largest_label(labels, shares)


@kernel
def pull_labels(moving, path, out):
    """The label whose indicator, trilinear, is largest; uint16; 0 outside."""
    for i in prange(out.shape[0]):
        _label_slab(moving, path, np.int64(i), out[i])
