"""The derivative of a map, and where the map folds: one threaded pass over a displacement field.

`edges[axis]` is the world vector from a voxel to the next along an axis, before the map; an edge
after the map is that plus the change of the displacement. Determinants are over those of `edges`,
so they are det(I + du/dx) in the world, for grids of any direction and handedness.

Voxels are taken in blocks of BLOCK along k. The vectors that a block needs, its own and those of
its neighbours, lie apart by component in one short buffer whose places are known when this is
compiled, so that every loop is SIMD: NEAR[row, component] begins at (3 row + component) * WIDE, and
a voxel's own place there is one further on. Beyond the border the field goes on as it is there.
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

BLOCK = 64
WIDE = BLOCK + 2
# Rows of the neighbourhood, by the offset along i and j.
OWN, BEFORE_I, AFTER_I, BEFORE_J, AFTER_J, BEFORE_IJ, AFTER_IJ = range(7)
NEAR_SIZE = 7 * 3 * WIDE


@device
def _at(row, component):
    """Where a neighbour's component begins in the buffer, for the block's first voxel."""
    return (3 * row + component) * WIDE + 1


@device
def _load_row(field, place, start, row, near):
    """One row of the neighbourhood, split by component, with a voxel more at each end."""
    ni, nj, nk, _ = field.shape
    i, j = min(max(place[0], 0), ni - 1), min(max(place[1], 0), nj - 1)
    line, to = field[i, j].reshape(-1), near[3 * row * WIDE : 3 * (row + 1) * WIDE]
    first, size = max(start - 1, 0), min(BLOCK + 1, nk - start) + min(start, 1)
    part, offset = line[3 * first :], 1 - min(start, 1)
    shifted = to[offset:]
    for k in range(size):
        shifted[k] = part[3 * k]
        shifted[k + WIDE] = part[3 * k + 1]
        shifted[k + 2 * WIDE] = part[3 * k + 2]
    for component in range(3):
        if start == 0:
            to[component * WIDE] = line[component]
        # The row's end goes on; past it, nobody looks.
        for k in range(size + offset, WIDE):
            to[component * WIDE + k] = line[3 * (nk - 1) + component]


@device
def _load(field, i, j, start, near):
    _load_row(field, (i, j), start, OWN, near)
    _load_row(field, (i - 1, j), start, BEFORE_I, near)
    _load_row(field, (i + 1, j), start, AFTER_I, near)
    _load_row(field, (i, j - 1), start, BEFORE_J, near)
    _load_row(field, (i, j + 1), start, AFTER_J, near)
    _load_row(field, (i - 1, j - 1), start, BEFORE_IJ, near)
    _load_row(field, (i + 1, j + 1), start, AFTER_IJ, near)


@device
def _copy_row(near, source, target):
    start, to = 3 * source * WIDE, 3 * target * WIDE
    for k in range(3 * WIDE):
        near[to + k] = near[start + k]


@device
def _load_next(field, i, j, start, near):
    """As `_load`, where the block at j - 1 is loaded: four rows of the seven were there too."""
    _copy_row(near, OWN, BEFORE_J)
    _copy_row(near, AFTER_J, OWN)
    _copy_row(near, BEFORE_I, BEFORE_IJ)
    _copy_row(near, AFTER_IJ, AFTER_I)
    _load_row(field, (i, j + 1), start, AFTER_J, near)
    _load_row(field, (i - 1, j), start, BEFORE_I, near)
    _load_row(field, (i + 1, j + 1), start, AFTER_IJ, near)


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
def _central(near, edges, weights, along_k, volume, out):
    """Determinants by central differences; `weights` 1/2, or 1 at the border, one-sided there."""
    x, y, z = edges
    for k in range(BLOCK):
        a = _edge(
            x, weights[0], _vector(near, _at(AFTER_I, 0), k), _vector(near, _at(BEFORE_I, 0), k)
        )
        b = _edge(
            y, weights[1], _vector(near, _at(AFTER_J, 0), k), _vector(near, _at(BEFORE_J, 0), k)
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
def _strains(near, scale, out):
    """The largest change of an edge along each axis, over its length, squared; summed."""
    own = _at(OWN, 0)
    for k in range(BLOCK):
        i = max(_change(near, _at(BEFORE_I, 0), k), _change(near, _at(AFTER_I, 0), k))
        j = max(_change(near, _at(BEFORE_J, 0), k), _change(near, _at(AFTER_J, 0), k))
        along = max(_change(near, own - 1, k), _change(near, own + 1, k))
        out[k] = scale[0] * i + scale[1] * j + scale[2] * along


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
    """Add what the corner simplices lose, in the few blocks where they can.

    Numbers that are not negative are in the order of their bits, and of integers the largest is
    found by SIMD.
    """
    most = np.int32(0)
    for k in range(BLOCK):
        most = strain_bits[k] if strain_bits[k] > most else most
    if most > LEAST_STRAIN_TO_FOLD:
        for k in range(BLOCK):
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
def _add_up(determinants, lost, inside, logs, statistics):
    """Add a block's voxels to the statistics."""
    count = folded = total = squared = gone = ZERO
    for k in range(inside.size):
        m, d, log = inside[k], determinants[k], logs[k]
        count += m
        folded += m if d <= ZERO else ZERO
        total += m * log
        squared += m * log * log
        gone += m * lost[k]
    statistics[COUNT] += count
    statistics[FOLDED] += folded
    statistics[LOG] += total
    statistics[LOG_SQUARED] += squared
    statistics[LOST] += gone * A_TWELFTH


@device
def _lengths(near, size, statistics):
    """The longest displacement of a block, squared."""
    longest = ZERO
    for k in range(size):
        u = _vector(near, _at(OWN, 0), k)
        longest = max(longest, u[0] * u[0] + u[1] * u[1] + u[2] * u[2])
    statistics[LONGEST] = max(statistics[LONGEST], longest)


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
def _slab(field, edges, mask, i, determinants, statistics):
    ni, nj, nk, _ = field.shape
    edges, diagonals, scale, volume = _geometry(edges)
    near, inside = np.empty(NEAR_SIZE, np.float32), np.empty(BLOCK, np.float32)
    rows, along_k = np.empty((5, BLOCK), np.float32), np.empty(BLOCK, np.float32)
    own, lost, strains, logs, exponents = rows[0], rows[1], rows[2], rows[3], rows[4]
    log_bits, mantissa_bits = logs.view(np.int32), strains.view(np.int32)
    for start in range(0, nk, BLOCK):
        size = min(BLOCK, nk - start)
        for k in range(BLOCK):
            along_k[k] = _weight(start + k, nk)
        for j in range(nj):
            weights = _weight(i, ni), _weight(j, nj)
            if j == 0:
                _load(field, i, j, start, near)
            else:
                _load_next(field, i, j, start, near)
            _central(near, edges, weights, along_k, volume, own)
            _central_simplices(near, diagonals, volume, lost)
            _strains(near, scale, strains)
            _add_folds(near, edges, volume, mantissa_bits, lost)
            _block_logarithms(own, log_bits, strains, mantissa_bits, exponents, logs)
            for k in range(size):
                determinants[j, start + k] = own[k]
                inside[k] = ONE if mask[j, start + k] else ZERO
            _add_up(own, lost, inside[:size], logs, statistics)
            _lengths(near, size, statistics)


@kernel
def jacobian(field, edges, mask, determinants, statistics):
    """det(I + du/dx) for each voxel, and for each slab what its voxels add up to.

    field: mm (i, j, k, 3); edges (3, 3), row by axis; mask (i, j, k); statistics
    (i, STATISTICS) float64, zero. LONGEST is of all displacements, squared.
    """
    for i in prange(field.shape[0]):
        _slab(field, edges, mask[i], np.int64(i), determinants[i], statistics[i])
