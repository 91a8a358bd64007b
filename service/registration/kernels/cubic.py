"""Cubic B-spline interpolation: coefficients that interpolate, and their sum at moving indices.

The volume goes on beyond its border by reflection about the outermost voxel centres, as ITK's and
scipy's (mode `mirror`) do. A row's moving indices are found as in `pull`.
"""

import math

import numpy as np

from service.registration.kernels.launch import device, kernel, prange
from service.registration.kernels.pull import (
    PARTS,
    locate_row,
    padded,
    part_of,
    start_slab,
    workspace_for,
)
from service.registration.kernels.sampling import clamped, is_inside

POLE = np.float32(math.sqrt(3.0) - 2.0)
# The pole to this power is under 1e-8 of a value.
HORIZON = 14


@device
def _mirrored(index, count):
    """An index reflected about the first and the last voxel; any number of times."""
    if count == 1:
        return 0
    period = 2 * (count - 1)
    index = abs(index) % period
    return period - index if index >= count else index


@device
def _filter_lines(lines):
    """Samples to B-spline coefficients down the first axis, all columns at once; in place.

    Source: Unser, Aldroubi, Eden, B-spline signal processing II, IEEE Trans Sign Proc 1993.
    """
    count, width = lines.shape
    if count == 1:
        return
    first = np.zeros(width, np.float32)
    power = np.float32(1.0)
    for n in range(HORIZON):
        at = _mirrored(n, count)
        for k in range(width):
            first[k] += power * lines[at, k]
        power *= POLE
    lines[0] = first
    for n in range(1, count):
        for k in range(width):
            lines[n, k] += POLE * lines[n - 1, k]
    scale = POLE / (POLE * POLE - np.float32(1.0))
    for k in range(width):
        lines[count - 1, k] = scale * (lines[count - 1, k] + POLE * lines[count - 2, k])
    for n in range(count - 2, -1, -1):
        for k in range(width):
            lines[n, k] = POLE * (lines[n + 1, k] - lines[n, k])
    for n in range(count):
        for k in range(width):
            lines[n, k] *= np.float32(6.0)


@device
def _filter_slab(slab):
    """Along j and k of one slab."""
    _filter_lines(slab)
    turned = slab.T.copy()
    _filter_lines(turned)
    slab[:] = turned.T


@kernel
def coefficients(volume):
    """Samples to B-spline coefficients along all three axes, in place; float32."""
    for i in prange(volume.shape[0]):
        _filter_slab(volume[i])
    for j in prange(volume.shape[1]):
        lines = volume[:, np.int64(j)].copy()
        _filter_lines(lines)
        volume[:, np.int64(j)] = lines


@device
def _taps(position, count, places, weights):
    """The four voxels around a clamped position and their weights."""
    position = clamped(position, np.float32(count - 1))
    lower = int(position)
    t = position - np.float32(lower)
    one, sixth = np.float32(1.0), np.float32(1.0 / 6.0)
    for n in range(4):
        places[n] = _mirrored(lower - 1 + n, count)
    weights[0] = sixth * (one - t) ** 3
    weights[1] = np.float32(2.0 / 3.0) - t * t + np.float32(0.5) * t**3
    weights[3] = sixth * t**3
    weights[2] = one - weights[0] - weights[1] - weights[3]


@device
def _sum(volume, places, weights):
    total = np.float32(0.0)
    for a in range(4):
        for b in range(4):
            row = np.float32(0.0)
            for c in range(4):
                row += weights[2, c] * volume[places[0, a], places[1, b], places[2, c]]
            total += weights[0, a] * weights[1, b] * row
    return total


@device
def _cubic_slabs(volume, path, fill, slabs, out):
    workspace = workspace_for(path, out.shape[2])
    at = np.empty((3, padded(out.shape[2])), np.float32)
    places, weights = np.empty((3, 4), np.int64), np.empty((3, 4), np.float32)
    for i in range(slabs[0], slabs[1]):
        start_slab(path, i, workspace)
        for j in range(out.shape[1]):
            locate_row(path, i, j, workspace, at)
            for k in range(out.shape[2]):
                out[i, j, k] = fill
                if is_inside(at[0, k], at[1, k], at[2, k], volume.shape):
                    for axis in range(3):
                        _taps(at[axis, k], volume.shape[axis], places[axis], weights[axis])
                    out[i, j, k] = _sum(volume, places, weights)


@kernel
def pull_cubic(volume, path, fill, out):
    """Cubic B-spline; volume holds coefficients; all float32. Path and border as in `pull`."""
    parts = min(PARTS, out.shape[0])
    for part in prange(parts):
        _cubic_slabs(volume, path, fill, part_of(part, parts, out.shape[0]), out)
