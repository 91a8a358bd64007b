"""Solve for the inverse of a displacement field.

Fields are (i, j, k, 4) float32 in voxels of their own grid, the fourth entry 0: a vector is then
one SIMD load. Beyond the grid a field's vectors are those of its border. Indices are of voxels,
integers at their centres.
"""

import numpy as np

from service.registration.kernels.launch import device, kernel, prange
from service.registration.kernels.sampling import blend, bracket, clamped, corners_of, is_finite

NOT_A_NUMBER = np.float32(np.nan).view(np.int32)  # its bits
ZERO, QUARTER, ONE, TWO = np.float32(0.0), np.float32(0.25), np.float32(1.0), np.float32(2.0)

# The voxels of a row that are not there yet take steps of the fixed point side by side, up to so
# many; what is left goes on one by one.
ROW_STEPS = 6
# After so many steps of the fixed point it does not converge, or hardly.
FIXED_POINT_STEPS = 12
LONGEST_STEP = np.float32(2.0)  # voxels
SMALLEST_VOLUME = np.float32(0.02)  # of a voxel after the map; smaller ones are nearly folded


@device
def _cell(position, count):
    """The clamped lower corner of a position's cell along an axis, and the share of the upper."""
    position = clamped(position, np.float32(count - 1))
    lower = min(np.int32(position), np.int32(max(count - 2, 0)))
    return lower, position - np.float32(lower)


@device
def _vector_at(field, corners, i, j, k):
    """The field's vector at a fractional voxel index: linear, clamped."""
    a, wi = _cell(i, field.shape[0])
    b, wj = _cell(j, field.shape[1])
    c, wk = _cell(k, field.shape[2])
    n = np.uint32((np.int64(a) * field.shape[1] + b) * field.shape[2] + c)
    w = wi, wj, wk
    return blend(corners, n, 0, w), blend(corners, n, 1, w), blend(corners, n, 2, w)


@device
def _edge(field, corners, place, axis):
    """How s + u(target + s) changes when s goes one voxel along an axis, at a place."""
    i, j, k = place
    di, dj, dk = np.float32(axis == 0), np.float32(axis == 1), np.float32(axis == 2)
    ahead = _vector_at(field, corners, i + QUARTER * di, j + QUARTER * dj, k + QUARTER * dk)
    behind = _vector_at(field, corners, i - QUARTER * di, j - QUARTER * dj, k - QUARTER * dk)
    return (
        TWO * (ahead[0] - behind[0]) + di,
        TWO * (ahead[1] - behind[1]) + dj,
        TWO * (ahead[2] - behind[2]) + dk,
    )


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
def _newton_step(field, corners, place, miss):
    """The step that would undo a miss, were the field linear there; at most LONGEST_STEP."""
    p = _edge(field, corners, place, 0)
    q = _edge(field, corners, place, 1)
    r = _edge(field, corners, place, 2)
    qr, rp, pq = _cross(q, r), _cross(r, p), _cross(p, q)
    volume = max(_dot(p, qr), SMALLEST_VOLUME)
    step = _dot(miss, qr) / volume, _dot(miss, rp) / volume, _dot(miss, pq) / volume
    length = np.sqrt(_dot(step, step))
    share = LONGEST_STEP / length if length > LONGEST_STEP else ONE
    return step[0] * share, step[1] * share, step[2] * share


@device
def _solve(field, corners, target, start, limits, fixed_point_steps):
    """The shift s with s = -u(target + s), and by how much it last missed, squared.

    A few steps of the fixed point, which is quick where neighbours move alike; then Newton's, which
    also finds its way where they are torn apart or pressed together.
    """
    a, b, c = target
    x, y, z = start
    change = np.float32(np.inf)
    for step in range(int(limits[0])):
        u, v, w = _vector_at(field, corners, a + x, b + y, c + z)
        miss = x + u, y + v, z + w
        change = _dot(miss, miss)
        if step < fixed_point_steps:
            x, y, z = -u, -v, -w
        else:
            d, e, f = _newton_step(field, corners, (a + x, b + y, c + z), miss)
            x, y, z = x - d, y - e, z - f
        if change <= limits[1]:
            break
    return x, y, z, change


@device
def _row_of(m, i, j):
    """A map's index at the start of a row, and the step to the next voxel."""
    start = m[:, 0] * i + m[:, 1] * j + m[:, 3]
    return (
        (np.float32(start[0]), np.float32(start[1]), np.float32(start[2])),
        (np.float32(m[0, 2]), np.float32(m[1, 2]), np.float32(m[2, 2])),
    )


@device
def _place(row, shifts, some, places):
    """For some voxels of a row, where their shifts take them; by itself, for this reads about."""
    (a, b, c), (p, q, r) = row
    for n in range(some.size):
        k = some[n]
        at = np.float32(np.int32(k))
        places[0, n] = a + p * at + shifts[k, 0]
        places[1, n] = b + q * at + shifts[k, 1]
        places[2, n] = c + r * at + shifts[k, 2]


@device
def _locate(shape, places, corner, shares):
    """The lower corner of each place's cell, and the shares; SIMD."""
    nj, nk = np.int32(shape[1]), np.int32(shape[2])
    for n in range(corner.size):
        x, shares[0, n] = _cell(places[0, n], shape[0])
        y, shares[1, n] = _cell(places[1, n], shape[1])
        z, shares[2, n] = _cell(places[2, n], shape[2])
        corner[n] = np.uint32(np.int32(np.int32(np.int32(x * nj) + y) * nk) + z)


@device
def _improve(corners, corner, shares, some, shifts, squares):
    """One step of the fixed point for some voxels of a row, and their squared misses before it."""
    for m in range(some.size):
        n, w, k = corner[m], (shares[0, m], shares[1, m], shares[2, m]), some[m]
        # All is read before anything is written, which might be the same to the compiler.
        a, b, c, d = shifts[k, 0], shifts[k, 1], shifts[k, 2], shifts[k, 3]
        x, y = blend(corners, n, 0, w), blend(corners, n, 1, w)
        z, rest = blend(corners, n, 2, w), blend(corners, n, 3, w)
        a, b, c, d = a + x, b + y, c + z, d + rest
        shifts[k, 0], shifts[k, 1], shifts[k, 2], shifts[k, 3] = -x, -y, -z, -rest
        squares[k] = a * a + b * b + c * c


@device
def _unsolved(squares, limit, some):
    """Move those of some voxels that miss by more than they may to the front, and count them."""
    count = np.int64(0)
    for n in range(some.size):
        k = some[n]
        some[count] = k
        count += np.int64(squares[k] > limit)
    return count


@device
def _steps_along(to_guess, count, length):
    """Where a row's voxels lie along a row of the guess: the entry below as a place, the share."""
    lower, share = np.empty(length, np.uint32), np.empty(length, np.float32)
    for k in range(length):
        entry, _, share[k] = bracket(to_guess[2, 3] + to_guess[2, 2] * k, count)
        lower[k] = 3 * entry
    return lower, share


@device
def _start_row(rows, corner, shares, steps, shifts):
    """Where an output row starts from: the guess, linear between its entries.

    `rows` (i, j, 3 k) is the guess, `corner` and `shares` say between which of its rows. The fourth
    number of a shift is nobody's, so that it is written at once.
    """
    (a, b, c, d), (wi, wj), (lower, share, blended) = corner, shares, steps
    ac, ad, bc, bd = rows[a, c], rows[a, d], rows[b, c], rows[b, d]
    for t in range(ac.size):
        near = ac[t] + wj * (ad[t] - ac[t])
        far = bc[t] + wj * (bd[t] - bc[t])
        blended[t] = near + wi * (far - near)
    ahead = blended[3:] if ac.size > 3 else blended
    for k in range(lower.size):
        n, w = np.uint64(lower[k]), share[k]
        p, q, r = n + np.uint64(1), n + np.uint64(2), n + np.uint64(3)
        x, y, z, rest = blended[n], blended[p], blended[q], blended[r]
        x, y = x + w * (ahead[n] - x), y + w * (ahead[p] - y)
        z, rest = z + w * (ahead[q] - z), rest + w * (ahead[r] - rest)
        shifts[k, 0], shifts[k, 1], shifts[k, 2], shifts[k, 3] = x, y, z, rest


@device
def _finish_row(field, corners, row, some, found, limits):
    """Go on with the voxels that still miss by too much, one by one."""
    (a, b, c), (p, q, r) = row
    shifts, squares = found
    for n in range(some.size):
        k = some[n]
        at = np.float32(np.int32(k))
        target = a + p * at, b + q * at, c + r * at
        start = shifts[k, 0], shifts[k, 1], shifts[k, 2]
        x, y, z, squares[k] = _solve(field, corners, target, start, limits, 0)
        shifts[k, 0], shifts[k, 1], shifts[k, 2] = x, y, z


@device
def _larger(bits, most):
    """The largest of numbers that are not negative, by their bits: SIMD compares integers."""
    for k in range(bits.size):
        most = bits[k] if bits[k] > most else most
    return most


@device
def _column(m, axis):
    """A column of a map, with a zero for company."""
    return np.float32(m[0, axis]), np.float32(m[1, axis]), np.float32(m[2, axis]), ZERO


@device
def _tell_row(answer, i, j, shifts, out):
    """out(m) = answer[0] @ shift + answer[1] @ m, as a line of 3 numbers a voxel.

    Four are written at once, of which the next voxel's replace the last.
    """
    m, (start, slope) = answer[0], _row_of(answer[1], i, j)
    a, b, c = _column(m, 0), _column(m, 1), _column(m, 2)
    for k in range(shifts.shape[0]):
        x, y, z, at = shifts[k, 0], shifts[k, 1], shifts[k, 2], np.float32(np.int32(k))
        n = np.uint64(3 * k)
        out[n] = start[0] + slope[0] * at + (a[0] * x + b[0] * y + c[0] * z)
        out[n + np.uint64(1)] = start[1] + slope[1] * at + (a[1] * x + b[1] * y + c[1] * z)
        out[n + np.uint64(2)] = start[2] + slope[2] * at + (a[2] * x + b[2] * y + c[2] * z)
        out[n + np.uint64(3)] = ZERO * at + (a[3] * x + b[3] * y + c[3] * z)


@device
def _solve_slab(field, guess, maps, limits, i, out):
    length = out.shape[1]
    lower, share = _steps_along(maps[1], guess.shape[2], length)
    steps = lower, share, np.zeros(3 * guess.shape[2] + 4, np.float32)
    ni, nj, nk, _ = guess.shape
    rows, told = guess.reshape(ni, nj, 3 * nk), out.reshape(out.shape[0], 3 * length)
    to_guess, line = maps[1], np.empty(3 * length + 1, np.float32)
    a, b, wi = bracket(to_guess[0, 0] * i + to_guess[0, 3], ni)
    corner, shares = np.empty(length, np.uint32), np.empty((3, length), np.float32)
    places = np.empty((3, length), np.float32)
    shifts, squares = np.empty((length, 4), np.float32), np.empty(length, np.float32)
    corners, worst, voxels = corners_of(field), np.int32(0), np.empty(length, np.uint32)
    for j in range(out.shape[0]):
        row, count = _row_of(maps[0], i, j), np.int64(length)
        c, d, wj = bracket(to_guess[1, 1] * j + to_guess[1, 3], nj)
        _start_row(rows, (a, b, c, d), (wi, wj), steps, shifts)
        for k in range(length):
            voxels[k] = k
        for _ in range(ROW_STEPS):
            some = voxels[:count]
            _place(row, shifts, some, places)
            _locate(field.shape, places, corner[:count], shares)
            _improve(corners, corner, shares, some, shifts, squares)
            count = _unsolved(squares, limits[1], some)
            if count == 0:
                break
        _finish_row(field, corners, row, voxels[:count], (shifts, squares), limits)
        worst = _larger(squares.view(np.int32), worst)
        _tell_row(maps[2:], i, j, shifts, line)
        told[j] = line[: 3 * length]
        worst = worst if is_finite(line) else NOT_A_NUMBER
    return worst


@kernel
def solve(field, guess, maps, limits, out, worst):
    """out(m) = maps[2] @ s + maps[3] @ m, where the shift s makes s + u(maps[0] @ m + s) zero.

    u is the field. maps: output index to field index; output index to that of `guess`, axis by
    axis; then as above. guess (i, j, k, 3): shifts to start from, linear between them. limits: most
    steps, squared change at which to stop. worst: for each slab of `out` (i, j, k, 3) the largest
    last change, squared, as the bits of a float32; NaN where what it tells is not finite.
    """
    for i in prange(out.shape[0]):
        worst[i] = _solve_slab(field, guess, maps, limits, np.int64(i), out[i])


@kernel
def solve_at(field, limits, targets, out):
    """out[n]: the shift s with s + u(target + s) = 0; targets (n, 3) float64, limits as above."""
    for n in prange(targets.shape[0]):
        target = np.float32(targets[n, 0]), np.float32(targets[n, 1]), np.float32(targets[n, 2])
        start = (ZERO, ZERO, ZERO)
        x, y, z, _ = _solve(field, corners_of(field), target, start, limits, FIXED_POINT_STEPS)
        out[n, 0], out[n, 1], out[n, 2] = x, y, z
