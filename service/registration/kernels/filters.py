"""Separable weighted sums along the three axes, for smoothing and downsampling."""

import numpy as np

from service.registration.kernels.launch import device, kernel, prange

ZERO = np.float32(0.0)


@device
def _add_scaled(line, first, weight, out):
    """Places are unsigned: of signed ones the compiler must think that they may be negative."""
    start = np.uint64(first)
    for n in range(out.size):
        out[n] += weight * line[start + np.uint64(n)]


@device
def _weigh_some(row, start, weights, first, last, out):
    """The output voxels from first to last of a row along k, one by one."""
    taps = weights.shape[1]
    for k in range(first, last):
        total = ZERO
        for tap in range(taps):
            total += weights[k, tap] * row[start[k] + tap]
        out[k] = total


@device
def _weigh_run(row, start, weights, out):
    """As `_weigh_some`, where each output voxel begins one further than the one before it.

    The weights lie by tap here, so that what is one loop for a voxel is one for all of a run.
    """
    for k in range(out.size):
        out[k] = ZERO
    for tap in range(weights.shape[0]):
        first = np.uint64(start + tap)
        for k in range(out.size):
            out[k] += weights[tap, k] * row[first + np.uint64(k)]


@device
def _run(start):
    """The first run of entries that go up by one, from and to."""
    first = 0
    while first + 1 < start.size and start[first + 1] != start[first] + 1:
        first += 1
    last = first + 1
    while last < start.size and start[last] == start[last - 1] + 1:
        last += 1
    return first, last


@device
def _filter_slab(volume, starts, weights, i, out):
    _, nj, nk = volume.shape
    line, begin, along_k = volume.reshape(-1), starts[2], weights[2]
    slab, row = np.zeros(nj * nk, np.float32), np.empty(nk, np.float32)
    for tap in range(weights[0].shape[1]):
        _add_scaled(line, (starts[0][i] + tap) * slab.size, weights[0][i, tap], slab)
    first, last = _run(begin)
    by_tap = along_k[first:last].T.copy()
    for j in range(out.shape[0]):
        row[:] = ZERO
        for tap in range(weights[1].shape[1]):
            _add_scaled(slab, (starts[1][j] + tap) * nk, weights[1][j, tap], row)
        _weigh_some(row, begin, along_k, 0, first, out[j])
        _weigh_run(row, begin[first], by_tap, out[j, first:last])
        _weigh_some(row, begin, along_k, last, begin.size, out[j])


@kernel
def filter_axes(volume, starts, weights, out):
    """out[a, b, c] = sum of weights[0][a, r] weights[1][b, s] weights[2][c, t] volume[...].

    The voxel that weights[n][p, t] belongs to is starts[n][p] + t; all of them exist. One pass: the
    sums along i, then j, then k of an output slab are made while it is in the cache.
    """
    for i in prange(out.shape[0]):
        _filter_slab(volume, starts, weights, np.int64(i), out[i])
