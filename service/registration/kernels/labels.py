"""Sample labels where a field points: the nearest voxel, or the label with the largest share.

Rows, paths and the rule at the border are those of `pull`, and a volume on the labels' grid can be
sampled in the same pass.
"""

import numpy as np

from service.registration.kernels.launch import device, kernel, prange
from service.registration.kernels.pull import (
    HALF,
    ONE,
    PARTS,
    ZERO,
    fill_outside,
    locate_row,
    neighbours,
    padded,
    part_of,
    samples,
    split,
    start_slab,
    workspace_for,
)
from service.registration.kernels.sampling import is_inside, linear_row, lower_corners

HERE = np.uint32(0)


@device
def _nearest_row(line, steps, corner, shares, row):
    """The nearest voxels of a row, each told from its sample's cell; `corner` becomes theirs."""
    out, i, j = row
    for axis in range(3):
        step = steps[axis]
        for n in range(corner.size):
            corner[n] += step if shares[axis, n] >= HALF else HERE
    for k in range(out.shape[2]):
        out[i, j, k] = line[corner[k]]


@device
def _steps(shape):
    """How far apart neighbours along each axis lie in memory."""
    return np.uint32(shape[1] * shape[2]), np.uint32(shape[2]), np.uint32(1)


@device
def _nearest_slabs(moving, path, fill, slabs, out):
    workspace, line, steps = workspace_for(path, out.shape[2]), moving.ravel(), _steps(moving.shape)
    at, shares, corner = samples(out.shape[2])
    for i in range(slabs[0], slabs[1]):
        start_slab(path, i, workspace)
        for j in range(out.shape[1]):
            locate_row(path, i, j, workspace, at)
            is_any_outside = split(at, out.shape[2], moving.shape, corner, shares)
            _nearest_row(line, steps, corner, shares, (out, i, j))
            if is_any_outside:
                fill_outside(at, moving.shape, fill, (out, i, j))


@kernel
def pull_nearest(moving, path, fill, out):
    """Nearest voxel, halves up as ITK has it; moving, fill and out of one unsigned type."""
    parts = min(PARTS, out.shape[0])
    for part in prange(parts):
        _nearest_slabs(moving, path, fill, part_of(part, parts, out.shape[0]), out)


@device
def _both_slabs(images, path, fills, slabs, outs):
    (values, labels), (warped, warped_labels) = images, outs
    workspace, steps = workspace_for(path, warped.shape[2]), _steps(values.shape)
    corners, line = lower_corners(values), labels.ravel()
    at, shares, corner = samples(warped.shape[2])
    for i in range(slabs[0], slabs[1]):
        start_slab(path, i, workspace)
        for j in range(warped.shape[1]):
            locate_row(path, i, j, workspace, at)
            is_any_outside = split(at, warped.shape[2], values.shape, corner, shares)
            linear_row(corners, corner, shares, (warped, i, j))
            _nearest_row(line, steps, corner, shares, (warped_labels, i, j))
            if is_any_outside:
                fill_outside(at, values.shape, fills[0], (warped, i, j))
                fill_outside(at, values.shape, fills[1], (warped_labels, i, j))


@kernel
def pull_both(images, path, fills, outs):
    """A volume as `pull_linear` and labels on its grid as `pull_nearest`, in one pass."""
    parts = min(PARTS, outs[0].shape[0])
    for part in prange(parts):
        _both_slabs(images, path, fills, part_of(part, parts, outs[0].shape[0]), outs)


@device
def _label_shares(moving, at, k, labels, shares):
    """The eight labels around a sample and their trilinear weights."""
    i0, i1, wi = neighbours(at[0, k], moving.shape[0])
    j0, j1, wj = neighbours(at[1, k], moving.shape[1])
    k0, k1, wk = neighbours(at[2, k], moving.shape[2])
    n = 0
    for a, wa in ((i0, ONE - wi), (i1, wi)):
        for b, wb in ((j0, ONE - wj), (j1, wj)):
            labels[n], shares[n] = moving[a, b, k0], wa * wb * (ONE - wk)
            labels[n + 1], shares[n + 1] = moving[a, b, k1], wa * wb * wk
            n += 2


@device
def _largest_label(labels, shares):
    """The label with the largest total; of equals the lowest."""
    best, most = labels[0], -ONE
    if (labels == best).all():
        return best
    for n in range(8):
        total = ZERO
        for m in range(8):
            if labels[m] == labels[n]:
                total += shares[m]
        if total > most or (total == most and labels[n] < best):
            best, most = labels[n], total
    return best


@device
def _label_slabs(moving, path, slabs, out):
    workspace = workspace_for(path, out.shape[2])
    at = np.empty((3, padded(out.shape[2])), np.float32)
    labels, shares = np.empty(8, np.uint16), np.empty(8, np.float32)
    for i in range(slabs[0], slabs[1]):
        start_slab(path, i, workspace)
        for j in range(out.shape[1]):
            locate_row(path, i, j, workspace, at)
            for k in range(out.shape[2]):
                out[i, j, k] = 0
                if is_inside(at[0, k], at[1, k], at[2, k], moving.shape):
                    _label_shares(moving, at, k, labels, shares)
                    out[i, j, k] = _largest_label(labels, shares)


@kernel
def pull_labels(moving, path, out):
    """The label whose indicator, trilinear, is largest; uint16; 0 outside."""
    parts = min(PARTS, out.shape[0])
    for part in prange(parts):
        _label_slabs(moving, path, part_of(part, parts, out.shape[0]), out)
