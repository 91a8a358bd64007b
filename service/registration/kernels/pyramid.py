"""Weighted sums of a few neighbours along one axis: what makes a volume coarser or finer."""

import numpy as np

from service.registration.kernels.launch import kernel, prange


@kernel
def reduce_rows(x, start, weights, out):
    """out[p, r, :] = sum over t of weights[r, t] x[p, start[r] + t, :]; 3-D, threaded over r."""
    taps = weights.shape[1]
    for r in prange(out.shape[1]):
        for p in range(out.shape[0]):
            row = out[p, r]
            row[:] = 0
            for t in range(taps):
                w, source = weights[r, t], x[p, start[r] + t]
                for k in range(row.size):
                    row[k] += w * source[k]


@kernel
def reduce_last(x, start, weights, out):
    """out[p, r] = sum over t of weights[r, t] x[p, start[r] + t]; 2-D."""
    by_tap = weights.T.copy()  # a row tap by tap: its sums do not wait for one another
    for p in prange(out.shape[0]):
        line, row = x[p], out[p]
        row[:] = 0
        for t in range(by_tap.shape[0]):
            w = by_tap[t]
            for r in range(row.size):
                row[r] += w[r] * line[np.uint64(start[r] + t)]
