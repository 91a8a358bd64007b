"""From the order that kernels walk, k fastest, to that of files, i fastest, and back.

Kernels are imported when something is turned: whoever only reads headers needs none.
"""

import numpy as np


def turned(values: np.ndarray) -> np.ndarray:
    """A volume with its axes in reverse, in C order: (i, j, k) becomes (k, j, i)."""
    if values.T.flags.c_contiguous:
        return values.T
    if not values.flags.c_contiguous or values.ndim != 3 or values.itemsize not in (1, 2, 4, 8):
        return np.ascontiguousarray(values.T)
    from service.registration.kernels.turning import turn

    out = np.empty(values.shape[::-1], values.dtype)
    bits = np.dtype(f"u{values.itemsize}")
    turn(values.view(bits), out.view(bits))
    return out


def turned_vectors(vectors: np.ndarray, some: slice, signs: np.ndarray) -> np.ndarray:
    """Some components of (i, j, k, 3), float32, times their signs: (n, k, j, i)."""
    from service.registration.kernels.turning import turn_vectors

    chosen = signs[some].copy()
    out = np.empty((len(chosen), *vectors.shape[2::-1]), np.float32)
    turn_vectors(vectors, (some.start, chosen), out)
    return out
