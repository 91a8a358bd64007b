"""The derivative of a map, and where the map folds: one threaded pass over a displacement field.

`edges[axis]` is the world vector from a voxel to the next along an axis, before the map; an edge
after the map is that plus the change of the displacement. Determinants are over those of `edges`,
so they are det(I + du/dx) in the world, for grids of any direction and handedness.

Three planes at a time lie apart by component, each row with a voxel more at its ends and each plane
with a row more, where the field goes on as it is at the border; a plane is then one long line, in
which a neighbour is so many places away whatever the voxel. Of it BLOCK places are taken at once,
and what they need, their vectors and their neighbours', comes into one short buffer whose places
are known when this is compiled, so that every loop is SIMD: NEAR[row, component] begins at
(3 row + component) * WIDE, and a voxel's own place there is one further on. The compiler may not
reorder sums, so each place of a block has its own.
"""

import numpy as np

from service.registration.kernels.launch import device, kernel, prange

ZERO, HALF, ONE, TWO = np.float32(0.0), np.float32(0.5), np.float32(1.0), np.float32(2.0)
A_TWELFTH = np.float32(1 / 12)
LEAST, LARGEST = np.float32(1e-9), np.float32(1e9)

# I + G is turned inside out only if G's Frobenius norm reaches 1. Less, for axes that are not quite
# at right angles.
LEAST_STRAIN_TO_FOLD = np.float32(0.9).view(np.int32)  # its bits

COUNT, FOLDED, LOG, LOG_SQUARED, LOST, LONGEST = range(6)
STATISTICS = 6

# Runs of planes, each on one thread; the planes at a run's ends are split once more.
RUNS = 16
BLOCK = 256
WIDE = BLOCK + 2
# Rows of the neighbourhood, by the offset along i and j.
OWN, BEFORE_I, AFTER_I, BEFORE_J, AFTER_J, BEFORE_IJ, AFTER_IJ = range(7)
NEAR_SIZE = 7 * 3 * WIDE
# Of a plane, for each place: the weights of differences, whether it counts, what is found.
ALONG_J, ALONG_K, INSIDE, DETERMINANT = range(4)
LINES = 4


@device
def _at(row, component):
    """Where a neighbour's component begins in the buffer, for the block's first voxel."""
    return (3 * row + component) * WIDE + 1


@device
def _split(field, i, plane):
    """A plane by component, each as a line of rows."""
    _, nj, nk, _ = field.shape
    for row in range(nj + 2):
        line, first = field[i, min(max(row - 1, 0), nj - 1)], row * (nk + 2)
        for component in range(3):
            to = plane[component, first : first + nk + 2]
            inner = to[1:]
            for k in range(nk):
                inner[k] = line[k, component]
            to[0], to[nk + 1] = to[1], to[nk]


@device
def _copy(source, first, count, target, to):
    """A loop whose length the compiler knows would be unrolled into single numbers."""
    from_place, to_place = np.uint64(first), np.uint64(to)
    for k in range(count):
        target[to_place + np.uint64(k)] = source[from_place + np.uint64(k)]


@device
def _load_row(plane, first, wide, row, near):
    """One row of the neighbourhood, with a place more at each end; `wide` is WIDE."""
    for component in range(3):
        _copy(plane[component], first - 1, wide, near, (3 * row + component) * WIDE)


@device
def _load(planes, first, line, wide, near):
    """The neighbourhood of the block that begins at a place; `line` places further is j + 1."""
    before, own, after = planes
    _load_row(own, first, wide, OWN, near)
    _load_row(before, first, wide, BEFORE_I, near)
    _load_row(after, first, wide, AFTER_I, near)
    _load_row(own, first - line, wide, BEFORE_J, near)
    _load_row(own, first + line, wide, AFTER_J, near)
    _load_row(before, first - line, wide, BEFORE_IJ, near)
    _load_row(after, first + line, wide, AFTER_IJ, near)


@device
def _vector(near, place, k):
    """Three components of a neighbour; `place` is where the first one begins."""
    return near[place + k], near[place + WIDE + k], near[place + 2 * WIDE + k]


@device
def _det(a, b, c):
    return (
        a[0] * (b[1] * c[2] - b[2] * c[1])
        + a[1] * (b[2] * c[0] - b[0] * c[2])
        + a[2] * (b[0] * c[1] - b[1] * c[0])
    )


@device
def _edge(edge, weight, ahead, behind):
    """An edge after the map: with what u changes by from behind to ahead, times a weight."""
    return (
        edge[0] + weight * (ahead[0] - behind[0]),
        edge[1] + weight * (ahead[1] - behind[1]),
        edge[2] + weight * (ahead[2] - behind[2]),
    )


@device
def _central(near, edges, weight_i, weights, volume, out):
    """Determinants by central differences; weights 1/2, or 1 at the border, one-sided there."""
    (x, y, z), (along_j, along_k) = edges, weights
    for k in range(BLOCK):
        a = _edge(
            x, weight_i, _vector(near, _at(AFTER_I, 0), k), _vector(near, _at(BEFORE_I, 0), k)
        )
        b = _edge(
            y, along_j[k], _vector(near, _at(AFTER_J, 0), k), _vector(near, _at(BEFORE_J, 0), k)
        )
        own = _at(OWN, 0)
        c = _edge(z, along_k[k], _vector(near, own + 1, k), _vector(near, own - 1, k))
        out[k] = _det(a, b, c) * volume


@device
def _change(near, place, k):
    """The squared length of what u changes by from a voxel to a neighbour."""
    u, v = _vector(near, _at(OWN, 0), k), _vector(near, place, k)
    x, y, z = v[0] - u[0], v[1] - u[1], v[2] - u[2]
    return x * x + y * y + z * z


@device
def _strains(near, scale, inside, out):
    """The largest change of an edge along each axis, over its length, squared; summed."""
    own = _at(OWN, 0)
    for k in range(BLOCK):
        i = max(_change(near, _at(BEFORE_I, 0), k), _change(near, _at(AFTER_I, 0), k))
        j = max(_change(near, _at(BEFORE_J, 0), k), _change(near, _at(AFTER_J, 0), k))
        along = max(_change(near, own - 1, k), _change(near, own + 1, k))
        out[k] = inside[k] * (scale[0] * i + scale[1] * j + scale[2] * along)


@device
def _central_simplices(near, diagonals, volume, out):
    """Lost volume of the two simplices on three diagonal neighbours, ahead and behind."""
    ij, jk, ki = diagonals
    own = _at(OWN, 0)
    for k in range(BLOCK):
        u = _vector(near, own, k)
        a = _edge(ij, ONE, _vector(near, _at(AFTER_IJ, 0), k), u)
        b = _edge(jk, ONE, _vector(near, _at(AFTER_J, 0) + 1, k), u)
        c = _edge(ki, ONE, _vector(near, _at(AFTER_I, 0) + 1, k), u)
        ahead = _det(a, b, c) * volume
        a = _edge(ij, ONE, u, _vector(near, _at(BEFORE_IJ, 0), k))
        b = _edge(jk, ONE, u, _vector(near, _at(BEFORE_J, 0) - 1, k))
        c = _edge(ki, ONE, u, _vector(near, _at(BEFORE_I, 0) - 1, k))
        out[k] = -min(ahead, ZERO) - min(_det(a, b, c) * volume, ZERO)


@device
def _corner_simplices(near, edges, volume, k):
    """Lost volume of the eight simplices on a voxel's neighbours along the axes."""
    x, y, z = edges
    own, u = _at(OWN, 0), _vector(near, _at(OWN, 0), k)
    lost = ZERO
    for a in (
        _edge(x, ONE, u, _vector(near, _at(BEFORE_I, 0), k)),
        _edge(x, ONE, _vector(near, _at(AFTER_I, 0), k), u),
    ):
        for b in (
            _edge(y, ONE, u, _vector(near, _at(BEFORE_J, 0), k)),
            _edge(y, ONE, _vector(near, _at(AFTER_J, 0), k), u),
        ):
            for c in (
                _edge(z, ONE, u, _vector(near, own - 1, k)),
                _edge(z, ONE, _vector(near, own + 1, k), u),
            ):
                lost -= min(_det(a, b, c) * volume, ZERO)
    return lost


@device
def _add_folds(near, edges, volume, strain_bits, lost):
    """Add what the corner simplices lose, at the few voxels where they can.

    Numbers that are not negative are in the order of their bits, and of integers the largest is
    found by SIMD.
    """
    most = np.int32(0)
    for k in range(BLOCK):
        most = strain_bits[k] if strain_bits[k] > most else most
    if most > LEAST_STRAIN_TO_FOLD:
        for k in range(BLOCK):
            if strain_bits[k] > LEAST_STRAIN_TO_FOLD:
                lost[k] += _corner_simplices(near, edges, volume, k)


@device
def _split_floats(bits, mantissas, exponents):
    """Positive float32 numbers, told by their bits, as mantissa in [1/2, 1) (bits) and exponent."""
    for k in range(BLOCK):
        fraction = np.int32(bits[k] & np.int32(0x7FFFFF))
        mantissas[k] = np.int32(fraction | np.int32(0x3F000000))
    for k in range(BLOCK):
        exponents[k] = np.float32(np.int32(np.int32(bits[k] >> np.int32(23)) - np.int32(126)))


@device
def _logarithms(mantissas, exponents, out):
    """Natural logarithms of mantissa times two to the exponent, to a few units of the last place.

    Source: the polynomial is that of Cephes' logf (S. L. Moshier, 1992).
    """
    for k in range(BLOCK):
        m, e = mantissas[k], exponents[k]
        is_small = m < np.float32(0.70710678)
        e, m = e - (ONE if is_small else ZERO), m * (TWO if is_small else ONE) - ONE
        p = np.float32(7.0376836292e-2)
        p = p * m + np.float32(-1.1514610310e-1)
        p = p * m + np.float32(1.1676998740e-1)
        p = p * m + np.float32(-1.2420140846e-1)
        p = p * m + np.float32(1.4249322787e-1)
        p = p * m + np.float32(-1.6668057665e-1)
        p = p * m + np.float32(2.0000714765e-1)
        p = p * m + np.float32(-2.4999993993e-1)
        p = p * m + np.float32(3.3333331174e-1)
        square = m * m
        y = p * m * square + e * np.float32(-2.12194440e-4) - HALF * square
        out[k] = m + y + e * np.float32(0.693359375)


@device
def _add_up(determinants, lost, inside, logs, near, sums):
    """Add a block's voxels to the sums."""
    count, folded, total, squared = sums[COUNT], sums[FOLDED], sums[LOG], sums[LOG_SQUARED]
    for k in range(BLOCK):
        count[k] += inside[k]
        folded[k] += inside[k] if determinants[k] <= ZERO else ZERO
    for k in range(BLOCK):
        total[k] += inside[k] * logs[k]
        squared[k] += inside[k] * logs[k] * logs[k]
    gone, longest = sums[LOST], sums[LONGEST]
    for k in range(BLOCK):
        u = _vector(near, _at(OWN, 0), k)
        gone[k] += inside[k] * lost[k]
        longest[k] = max(longest[k], u[0] * u[0] + u[1] * u[1] + u[2] * u[2])


@device
def _tell(sums, statistics):
    """What a plane's sums come to."""
    for k in range(BLOCK):
        for what in range(LONGEST):
            statistics[what] += sums[what, k]
        statistics[LONGEST] = max(statistics[LONGEST], sums[LONGEST, k])
    statistics[LOST] *= A_TWELFTH


@device
def _geometry(edges):
    """Edges and diagonals of a voxel as tuples, one over squared lengths, one over the volume."""
    x = edges[0, 0], edges[0, 1], edges[0, 2]
    y = edges[1, 0], edges[1, 1], edges[1, 2]
    z = edges[2, 0], edges[2, 1], edges[2, 2]
    ij = x[0] + y[0], x[1] + y[1], x[2] + y[2]
    jk = y[0] + z[0], y[1] + z[1], y[2] + z[2]
    ki = z[0] + x[0], z[1] + x[1], z[2] + x[2]
    scale = (
        ONE / (x[0] ** 2 + x[1] ** 2 + x[2] ** 2),
        ONE / (y[0] ** 2 + y[1] ** 2 + y[2] ** 2),
        ONE / (z[0] ** 2 + z[1] ** 2 + z[2] ** 2),
    )
    return (x, y, z), (ij, jk, ki), scale, ONE / _det(x, y, z)


@device
def _weight(index, count):
    return ONE if index == 0 or index == count - 1 else HALF


@device
def _block_logarithms(determinants, bits, mantissas, mantissa_bits, exponents, out):
    """Logarithms of a block's determinants, clipped; the last arguments but one are scratch."""
    for k in range(BLOCK):
        out[k] = min(max(determinants[k], LEAST), LARGEST)
    _split_floats(bits, mantissa_bits, exponents)
    _logarithms(mantissas, exponents, out)


@device
def _weigh(nj, nk, lines):
    """The weights of differences along j and k, which are every plane's."""
    for j in range(nj):
        for k in range(nk):
            place = j * (nk + 2) + k
            lines[ALONG_J, place], lines[ALONG_K, place] = _weight(j, nj), _weight(k, nk)


@device
def _count(mask, inside):
    """A plane's mask as a line, 0 beyond its rows."""
    nj, nk = mask.shape
    for j in range(nj):
        row, first = mask[j], np.uint64(j * (nk + 2))
        for k in range(nk):
            inside[first + np.uint64(k)] = ONE if row[k] else ZERO


@device
def _tell_plane(line, determinants):
    nj, nk = determinants.shape
    for j in range(nj):
        row, first = determinants[j], np.uint64(j * (nk + 2))
        for k in range(nk):
            row[k] = line[first + np.uint64(k)]


@device
def _plane(planes, edges, weight_i, lines, line, statistics):
    """The determinants of a plane, into its line, and its statistics."""
    edges, diagonals, scale, volume = _geometry(edges)
    near, sums = np.empty(NEAR_SIZE, np.float32), np.zeros((STATISTICS, BLOCK), np.float32)
    rows = np.empty((8, BLOCK), np.float32)
    own, lost, strains, logs, exponents = rows[0], rows[1], rows[2], rows[3], rows[4]
    along_j, along_k, inside = rows[5], rows[6], rows[7]
    log_bits, mantissa_bits = logs.view(np.int32), strains.view(np.int32)
    block, wide = min(BLOCK, lines.shape[1]), min(WIDE, lines.shape[1])
    for start in range(0, lines.shape[1] - BLOCK, BLOCK):
        _load(planes, start + line + 1, line, wide, near)
        _copy(lines[ALONG_J], start, block, along_j, 0)
        _copy(lines[ALONG_K], start, block, along_k, 0)
        _copy(lines[INSIDE], start, block, inside, 0)
        _central(near, edges, weight_i, (along_j, along_k), volume, own)
        _central_simplices(near, diagonals, volume, lost)
        _strains(near, scale, inside, strains)
        _add_folds(near, edges, volume, mantissa_bits, lost)
        _block_logarithms(own, log_bits, strains, mantissa_bits, exponents, logs)
        _copy(own, 0, block, lines[DETERMINANT], start)
        _add_up(own, lost, inside, logs, near, sums)
    _tell(sums, statistics)


@device
def _run(field, edges, mask, run, determinants, statistics):
    """The planes of a run, one after the other, each split once."""
    ni, nj, nk, _ = field.shape
    first, last, line = run[0], run[1], nk + 2
    planes = np.zeros((3, 3, (nj + 2) * line + BLOCK + 2), np.float32)
    lines = np.zeros((LINES, nj * line + BLOCK), np.float32)
    _weigh(nj, nk, lines)
    for i in range(first - 1, min(first + 1, last)):
        _split(field, max(i, 0), planes[(i + 3) % 3])
    for i in range(first, last):
        _split(field, min(i + 1, ni - 1), planes[(i + 1) % 3])
        _count(mask[i], lines[INSIDE])
        near = planes[(i + 2) % 3], planes[i % 3], planes[(i + 1) % 3]
        _plane(near, edges, _weight(i, ni), lines, line, statistics[i])
        _tell_plane(lines[DETERMINANT], determinants[i])


@kernel
def jacobian(field, edges, mask, determinants, statistics):
    """det(I + du/dx) for each voxel, and for each slab what its voxels add up to.

    field: mm (i, j, k, 3); edges (3, 3), row by axis; mask (i, j, k); statistics
    (i, STATISTICS) float64, zero. LONGEST is of all displacements, squared.
    """
    count = field.shape[0]
    for run in prange(RUNS):
        planes = run * count // RUNS, (run + 1) * count // RUNS
        _run(field, edges, mask, planes, determinants, statistics)
