"""What is linear along an axis as matrices (n, n): from its voxels to its voxels, float32.

An axis has a margin of MARGIN voxels at both ends; see `kernels.planes`.
"""

from collections.abc import Sequence

import numpy as np

from service.registration.kernels.planes import MARGIN


def shifted(n: int, by: int, margin: int = 0) -> np.ndarray:
    """What lies `by` voxels further; the outermost values off a margin go on."""
    there = np.clip(np.arange(n) + by, margin, n - 1 - margin)
    rows: np.ndarray = np.eye(n, dtype=np.float32)[there]
    return rows


def band(n: int, taps: Sequence[np.float32] | np.ndarray) -> np.ndarray:
    """Filtered by (middle, next, outermost) of five taps; zeros lie beyond."""
    matrix = np.zeros((n, n), np.float32)
    for by, tap in enumerate(taps):
        for k in {by, -by}:
            matrix += tap * np.eye(n, k=k, dtype=np.float32)
    return matrix


def slope(n: int) -> np.ndarray:
    """Central differences."""
    slope: np.ndarray = 0.5 * (shifted(n, 1) - shifted(n, -1))
    return slope


def blurring(n: int) -> np.ndarray:
    """Weights 1/4, 1/2, 1/4 off the margin, through which the outermost inner values go on."""
    before, here, after = (shifted(n, by, MARGIN) for by in (-1, 0, 1))
    blur: np.ndarray = 0.25 * (before + after) + 0.5 * here
    return blur


def extended(matrix: np.ndarray) -> np.ndarray:
    """The same, and then what lies outermost off the margin repeated through it."""
    repeated: np.ndarray = shifted(len(matrix), 0, MARGIN) @ matrix
    return repeated
