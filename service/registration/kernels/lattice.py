"""Bring volumes and fields onto a lattice through an affine of voxel indices."""

import numpy as np

from service.registration.kernels.launch import device, kernel, prange


@device
def _clamped(position, count):
    """The voxel below, the next one and its share; positions beyond the ends count as the ends."""
    position = min(max(position, np.float32(0.0)), np.float32(count - 1))
    lower = min(np.int64(position), max(count - 2, 0))
    return lower, min(lower + 1, count - 1), position - np.float32(lower)


@kernel
def pull_clamped(volume, matrix, shift, scale, out):
    """out(v) = scale * (volume(matrix @ (v, 1)) - shift), trilinear.

    Outside, the nearest border voxel's value.
    """
    ni, nj, nk = volume.shape
    one = np.float32(1.0)
    for i in prange(out.shape[0]):
        for j in range(out.shape[1]):
            x0 = matrix[0, 0] * i + matrix[0, 1] * j + matrix[0, 3]
            y0 = matrix[1, 0] * i + matrix[1, 1] * j + matrix[1, 3]
            z0 = matrix[2, 0] * i + matrix[2, 1] * j + matrix[2, 3]
            for k in range(out.shape[2]):
                a, b, fx = _clamped(np.float32(x0 + matrix[0, 2] * k), ni)
                c, d, fy = _clamped(np.float32(y0 + matrix[1, 2] * k), nj)
                e, f, fz = _clamped(np.float32(z0 + matrix[2, 2] * k), nk)
                gx, gy, gz = one - fx, one - fy, one - fz
                near = (volume[a, c, e] * gz + volume[a, c, f] * fz) * gy + (
                    volume[a, d, e] * gz + volume[a, d, f] * fz
                ) * fy
                far = (volume[b, c, e] * gz + volume[b, c, f] * fz) * gy + (
                    volume[b, d, e] * gz + volume[b, d, f] * fz
                ) * fy
                out[i, j, k] = scale * (near * gx + far * fx - shift)


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
