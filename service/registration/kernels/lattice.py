"""Bring volumes and fields onto a lattice through an affine of voxel indices."""

import numpy as np

from service.registration.kernels.launch import device, kernel, prange
from service.registration.kernels.sampling import clamped, linear_row, lower_corners


@device
def _locate_row(shape, start, step, corner, shares):
    """Where start + k step lies, clamped at the border: the lower corner, the shares.

    By itself, for this becomes SIMD, and what follows does not.
    """
    x0, y0, z0 = start
    dx, dy, dz = step
    ni, nj, nk = np.int32(shape[0] - 1), np.int32(shape[1] - 1), np.int32(shape[2] - 1)
    top_i, top_j, top_k = max(ni - 1, 0), max(nj - 1, 0), max(nk - 1, 0)
    stride_i, stride_j = np.int32(shape[1] * shape[2]), np.int32(shape[2])
    for k in range(corner.size):
        n = np.float64(np.int32(k))
        x, y = (
            clamped(np.float32(x0 + dx * n), np.float32(ni)),
            clamped(np.float32(y0 + dy * n), np.float32(nj)),
        )
        z = clamped(np.float32(z0 + dz * n), np.float32(nk))
        a, b, c = min(np.int32(x), top_i), min(np.int32(y), top_j), min(np.int32(z), top_k)
        shares[0, k], shares[1, k] = x - np.float32(a), y - np.float32(b)
        shares[2, k] = z - np.float32(c)
        corner[k] = np.uint32(np.int32(np.int32(a * stride_i) + np.int32(b * stride_j)) + c)


@kernel
def pull_clamped(volume, matrix, shift, scale, out):
    """out(v) = scale * (volume(matrix @ (v, 1)) - shift), trilinear.

    Outside, the nearest border voxel's value.
    """
    corners, nk = lower_corners(volume), out.shape[2]
    step = matrix[0, 2], matrix[1, 2], matrix[2, 2]
    for i in prange(out.shape[0]):
        corner, shares = np.empty(nk, np.uint32), np.empty((3, nk), np.float32)
        for j in range(out.shape[1]):
            start = (
                matrix[0, 0] * i + matrix[0, 1] * j + matrix[0, 3],
                matrix[1, 0] * i + matrix[1, 1] * j + matrix[1, 3],
                matrix[2, 0] * i + matrix[2, 1] * j + matrix[2, 3],
            )
            _locate_row(volume.shape, start, step, corner, shares)
            linear_row(corners, corner, shares, (out, i, j))
            row = out[i, j]
            for k in range(nk):
                row[k] = scale * (row[k] - shift)


@kernel
def keep_inside(field, matrix, shape, nk, mask):
    """Zero the mask where matrix @ (voxel + field(voxel)) lies outside a volume of `shape`."""
    for i in prange(mask.shape[0]):
        for j in range(mask.shape[1] // nk):
            o = j * nk
            u, v, w = field[0, i, o : o + nk], field[1, i, o : o + nk], field[2, i, o : o + nk]
            row = mask[i, o : o + nk]
            for axis in range(3):
                a, b, c = matrix[axis, 0], matrix[axis, 1], matrix[axis, 2]
                start, top = a * i + b * j + matrix[axis, 3], shape[axis] - 0.5
                for k in range(nk):
                    at = start + a * u[k] + b * v[k] + c * (k + w[k])
                    row[k] = row[k] if -0.5 <= at <= top else np.float32(0.0)


@kernel
def pad_clamped(volume, margin, shift, scale, out):
    """out = scale * (volume - shift) with its border values repeated through the margin."""
    ni, nj, nk = volume.shape
    for i in prange(out.shape[0]):
        a = min(max(np.int64(i) - margin, 0), ni - 1)
        for j in range(out.shape[1]):
            row = volume[a, min(max(j - margin, 0), nj - 1)]
            to = out[i, j]
            for k in range(nk):
                to[k + margin] = scale * (row[k] - shift)
            to[:margin] = to[margin]
            to[nk + margin :] = to[nk + margin - 1]


@kernel
def reach_of(field, nk, low, high):
    """low[i], high[i] (3 axes): the least and greatest voxel + field(voxel) in plane i."""
    for i in prange(field.shape[1]):
        low[i] = np.inf
        high[i] = -np.inf
        for j in range(field.shape[2] // nk):
            for axis in range(3):
                row = field[axis, i, j * nk : (j + 1) * nk]
                start = np.float32(i if axis == 0 else j if axis == 1 else 0)
                slope = np.float32(1 if axis == 2 else 0)
                least, most = np.float32(np.inf), np.float32(-np.inf)
                for k in range(nk):
                    at = start + slope * np.float32(k) + row[k]
                    least, most = min(least, at), max(most, at)
                low[i, axis] = min(low[i, axis], least)
                high[i, axis] = max(high[i, axis], most)
