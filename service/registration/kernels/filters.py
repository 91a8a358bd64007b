"""Separable weighted sums along the three axes, for smoothing and downsampling."""

import numpy as np

from service.registration.kernels.launch import device, kernel, prange

ZERO = np.float32(0.0)


@device
def _add_scaled(row, weight, out):
    for n in range(out.size):
        out[n] += weight * row[n]


@device
def _weigh_row(row, start, weights, out):
    """One output row along k."""
    taps = weights.shape[1]
    for k in range(out.size):
        total = ZERO
        for tap in range(taps):
            total += weights[k, tap] * row[start[k] + tap]
        out[k] = total


@device
def _filter_slab(volume, starts, weights, i, out):
    ni, nj, nk = volume.shape
    rows = volume.reshape(ni, nj * nk)
    slab = np.zeros((nj, nk), np.float32)
    for tap in range(weights[0].shape[1]):
        _add_scaled(rows[starts[0][i] + tap], weights[0][i, tap], slab.ravel())
    row = np.empty(nk, np.float32)
    for j in range(out.shape[0]):
        row[:] = ZERO
        for tap in range(weights[1].shape[1]):
            _add_scaled(slab[starts[1][j] + tap], weights[1][j, tap], row)
        _weigh_row(row, starts[2], weights[2], out[j])


@kernel
def filter_axes(volume, starts, weights, out):
    """out[a, b, c] = sum of weights[0][a, r] weights[1][b, s] weights[2][c, t] volume[...].

    The voxel that weights[n][p, t] belongs to is starts[n][p] + t; all of them exist. One pass: the
    sums along i, then j, then k of an output slab are made while it is in the cache.
    """
    for i in prange(out.shape[0]):
        _filter_slab(volume, starts, weights, np.int64(i), out[i])
