"""Turn arrays from the order that kernels walk, k fastest, to that of files, i fastest, and back.

For one j and COLUMNS voxels along k all i are turned at once: what is read and what is written then
both lie in the second-level cache, in runs of whole cache lines. Plain loops fetch a line a voxel.
Where slabs follow each other at a multiple of a large power of two, as those of 256 cubed do, the
lines of all i compete for a few places of the cache; then ROWS of them are turned at a time.
"""

import numpy as np

from service.registration.kernels.launch import device, kernel, prange

COLUMNS = 16
ROWS = 16
COMPETING = 2048  # bytes


@device
def _rows(x):
    """How many slabs to turn at a time."""
    return ROWS if x.strides[0] % COMPETING == 0 else x.shape[0]


@device
def _turn_columns(x, j, columns, rows, out):
    for start in range(0, x.shape[0], rows):
        for c in range(columns[0], columns[1]):
            for n in range(min(rows, x.shape[0] - start)):
                a = np.uint64(start + n)
                out[c, j, a] = x[a, j, c]


@kernel
def turn(x, out):
    """out[c, j, a] = x[a, j, c]; both of one unsigned type, C order."""
    for j in prange(x.shape[1]):
        for first in range(0, x.shape[2], COLUMNS):
            columns = first, min(first + COLUMNS, x.shape[2])
            _turn_columns(x, j, columns, _rows(x), out)


@device
def _turn_vectors(x, j, columns, rows, some, out):
    component, signs = some
    for start in range(0, x.shape[0], rows):
        for q in range(out.shape[0]):
            sign = signs[q]
            for c in range(columns[0], columns[1]):
                for n in range(min(rows, x.shape[0] - start)):
                    a = np.uint64(start + n)
                    out[q, c, j, a] = sign * x[a, j, c, component + q]


@kernel
def turn_vectors(x, some, out):
    """out[q, c, j, a] = signs[q] x[a, j, c, first + q] with `some` (first, signs); float32."""
    for j in prange(x.shape[1]):
        for first in range(0, x.shape[2], COLUMNS):
            columns = first, min(first + COLUMNS, x.shape[2])
            _turn_vectors(x, j, columns, _rows(x), some, out)
