"""The derivative of a map, and where the map folds: one threaded pass over a displacement field.

`edges[axis]` is the world vector from a voxel to the next along an axis, before the map; an edge
after the map is that plus the change of the displacement. Determinants are over those of `edges`,
so they are det(I + du/dx) in the world, for grids of any direction and handedness.
"""

import math

import numpy as np
from numba import prange

from service.registration.kernels.launch import device, kernel

ZERO, HALF, ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)
LEAST, LARGEST = np.float32(1e-9), np.float32(1e9)

# I + G is turned inside out only if G's Frobenius norm reaches 1. Less, for axes that are not quite
# at right angles.
LEAST_STRAIN_TO_FOLD = np.float32(0.9)

COUNT, FOLDED, LOG, LOG_SQUARED, LOST, SMALLEST = range(6)
STATISTICS = 6


@device
def _change(field, voxel, di, dj, dk):
    """u at a neighbour minus u here; beyond the border u goes on as it is there."""
    i, j, k = voxel
    a = min(max(i + di, 0), field.shape[0] - 1)
    b = min(max(j + dj, 0), field.shape[1] - 1)
    c = min(max(k + dk, 0), field.shape[2] - 1)
    return (
        field[a, b, c, 0] - field[i, j, k, 0],
        field[a, b, c, 1] - field[i, j, k, 1],
        field[a, b, c, 2] - field[i, j, k, 2],
    )


@device
def _after(edge, sign, change):
    """An edge after the map; sign -1 for a neighbour that lies behind."""
    return edge[0] + sign * change[0], edge[1] + sign * change[1], edge[2] + sign * change[2]


@device
def _det(a, b, c):
    return (
        a[0] * (b[1] * c[2] - b[2] * c[1])
        + a[1] * (b[2] * c[0] - b[0] * c[2])
        + a[2] * (b[0] * c[1] - b[1] * c[0])
    )


@device
def _mean(behind, ahead, index, last):
    """Central difference of the edges behind and ahead; one-sided at the border."""
    weight = HALF
    if index == 0:
        weight = ONE
    elif index == last:
        weight = ZERO
    rest = ONE - weight
    return (
        rest * behind[0] + weight * ahead[0],
        rest * behind[1] + weight * ahead[1],
        rest * behind[2] + weight * ahead[2],
    )


@device
def _diagonal(field, voxel, edges, sign, step):
    """The edge to a diagonal neighbour, after the map."""
    di, dj, dk = sign * step[0], sign * step[1], sign * step[2]
    change = _change(field, voxel, di, dj, dk)
    return (
        edges[0, 0] * di + edges[1, 0] * dj + edges[2, 0] * dk + change[0],
        edges[0, 1] * di + edges[1, 1] * dj + edges[2, 1] * dk + change[1],
        edges[0, 2] * di + edges[1, 2] * dj + edges[2, 2] * dk + change[2],
    )


@device
def _strain(edge, behind, ahead):
    """The larger change of an edge by the map, over its length; squared."""
    length = edge[0] ** 2 + edge[1] ** 2 + edge[2] ** 2
    back = (behind[0] - edge[0]) ** 2 + (behind[1] - edge[1]) ** 2 + (behind[2] - edge[2]) ** 2
    on = (ahead[0] - edge[0]) ** 2 + (ahead[1] - edge[1]) ** 2 + (ahead[2] - edge[2]) ** 2
    return max(back, on) / length


@device
def _central_simplex(field, voxel, edges, sign, volume):
    """Determinant of the simplex on three diagonal neighbours; 2 for the identity."""
    ij = _diagonal(field, voxel, edges, sign, (1, 1, 0))
    jk = _diagonal(field, voxel, edges, sign, (0, 1, 1))
    ki = _diagonal(field, voxel, edges, sign, (1, 0, 1))
    return sign * _det(ij, jk, ki) * volume


@device
def _lost(behind, ahead, volume):
    """Negative parts of the eight corner simplices' determinants, summed."""
    lost = ZERO
    for a in (behind[0], ahead[0]):
        for b in (behind[1], ahead[1]):
            for c in (behind[2], ahead[2]):
                lost -= min(_det(a, b, c) * volume, ZERO)
    return lost


@device
def _voxel(field, voxel, edges, inverse_volume):
    """The determinant by central differences, and the folded volume in voxels."""
    x, y, z = (
        (edges[0, 0], edges[0, 1], edges[0, 2]),
        (edges[1, 0], edges[1, 1], edges[1, 2]),
        (edges[2, 0], edges[2, 1], edges[2, 2]),
    )
    behind = (
        _after(x, -ONE, _change(field, voxel, -1, 0, 0)),
        _after(y, -ONE, _change(field, voxel, 0, -1, 0)),
        _after(z, -ONE, _change(field, voxel, 0, 0, -1)),
    )
    ahead = (
        _after(x, ONE, _change(field, voxel, 1, 0, 0)),
        _after(y, ONE, _change(field, voxel, 0, 1, 0)),
        _after(z, ONE, _change(field, voxel, 0, 0, 1)),
    )
    central = _det(
        _mean(behind[0], ahead[0], voxel[0], field.shape[0] - 1),
        _mean(behind[1], ahead[1], voxel[1], field.shape[1] - 1),
        _mean(behind[2], ahead[2], voxel[2], field.shape[2] - 1),
    )
    lost = ZERO
    if (
        _strain(x, behind[0], ahead[0])
        + _strain(y, behind[1], ahead[1])
        + _strain(z, behind[2], ahead[2])
        > LEAST_STRAIN_TO_FOLD
    ):
        lost = _lost(behind, ahead, inverse_volume)
    for sign in (-1, 1):
        lost -= min(_central_simplex(field, voxel, edges, sign, inverse_volume), ZERO)
    return central * inverse_volume, lost / np.float32(12)


@device
def _slab(field, edges, mask, i, determinants, statistics):
    inverse_volume = ONE / _det(edges[0], edges[1], edges[2])
    for j in range(field.shape[1]):
        for k in range(field.shape[2]):
            determinant, lost = _voxel(field, (i, j, k), edges, inverse_volume)
            determinants[j, k] = determinant
            if mask[j, k]:
                log = math.log(min(max(determinant, LEAST), LARGEST))
                statistics[COUNT] += 1
                statistics[FOLDED] += determinant <= ZERO
                statistics[LOG] += log
                statistics[LOG_SQUARED] += log * log
                statistics[LOST] += lost
                statistics[SMALLEST] = min(statistics[SMALLEST], determinant)


@kernel
def jacobian(field, edges, mask, determinants, statistics):
    """det(I + du/dx) for each voxel, and for each slab what its voxels add up to.

    field: mm (i, j, k, 3); edges (3, 3), row by axis; mask (i, j, k); statistics (i, 6) float64,
    zero but for SMALLEST.
    """
    for i in prange(field.shape[0]):
        _slab(field, edges, mask[i], np.int64(i), determinants[i], statistics[i])
