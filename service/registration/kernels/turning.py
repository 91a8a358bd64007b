"""Turn arrays from the order that kernels walk, k fastest, to that of files, i fastest, and back.

For one j and COLUMNS voxels along k all i are turned at once: what is read and what is written then
both lie in the second-level cache, in runs of whole cache lines. Plain loops fetch a line a voxel.
"""

from service.registration.kernels.launch import device, kernel, prange

COLUMNS = 16


@device
def _turn_columns(x, j, first, last, out):
    for c in range(first, last):
        for a in range(x.shape[0]):
            out[c, j, a] = x[a, j, c]


@kernel
def turn(x, out):
    """out[c, j, a] = x[a, j, c]; both of one unsigned type, C order."""
    for j in prange(x.shape[1]):
        for first in range(0, x.shape[2], COLUMNS):
            _turn_columns(x, j, first, min(first + COLUMNS, x.shape[2]), out)


@device
def _turn_vectors(x, j, first, last, some, out):
    component, signs = some
    for q in range(out.shape[0]):
        sign = signs[q]
        for c in range(first, last):
            for a in range(x.shape[0]):
                out[q, c, j, a] = sign * x[a, j, c, component + q]


@kernel
def turn_vectors(x, some, out):
    """out[q, c, j, a] = signs[q] x[a, j, c, first + q] with `some` (first, signs); float32."""
    for j in prange(x.shape[1]):
        for first in range(0, x.shape[2], COLUMNS):
            _turn_vectors(x, j, first, min(first + COLUMNS, x.shape[2]), some, out)
