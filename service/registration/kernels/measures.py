"""Threaded passes over two volumes: sums for correlation, joint counts, label surfaces."""

import numpy as np

from service.registration.kernels.launch import device, kernel, prange, reduction


@reduction
def _products(x, y, inside):
    """Count, a, b, a a, b b, a b of what is inside."""
    count = a = b = aa = bb = ab = 0.0
    for t in range(x.size):
        m = np.float64(inside[t] != 0)
        p, q = m * np.float64(x[t]), m * np.float64(y[t])
        count, a, b = count + m, a + p, b + q
        aa, bb, ab = aa + p * p, bb + q * q, ab + p * q
    return count, a, b, aa, bb, ab


@kernel
def correlation_sums(a, b, mask, sums):
    """sums[i] = count, a, b, a a, b b, a b over slab i where mask is set; sums (i, 6) float64."""
    for i in prange(a.shape[0]):
        sums[i, :] = _products(a[i].ravel(), b[i].ravel(), mask[i].ravel())


@device
def _joint_slab(a, b, mask, scales, counts):
    top = counts.shape[0] - 1
    for j in range(a.shape[0]):
        for k in range(a.shape[1]):
            if mask[j, k]:
                m = (a[j, k] - scales[0, 0]) * scales[0, 1]
                n = (b[j, k] - scales[1, 0]) * scales[1, 1]
                counts[min(max(int(m), 0), top), min(max(int(n), 0), top)] += 1


@kernel
def joint_histogram(a, b, mask, scales, counts):
    """counts[part, m, n]: voxels whose value falls into bin m of a and n of b.

    Bin = (value - scales[.][0]) * scales[.][1]; each part takes every len(counts)-th slab.
    """
    parts = counts.shape[0]
    for part in prange(parts):
        for i in range(np.int64(part), a.shape[0], parts):
            _joint_slab(a[i], b[i], mask[i], scales, counts[part])


@device
def _overlap_slab(a, b, counts):
    for j in range(a.shape[0]):
        for k in range(a.shape[1]):
            m, n = a[j, k], b[j, k]
            counts[0, m] += 1
            counts[1, n] += 1
            if m == n:
                counts[2, m] += 1


@kernel
def label_overlap(a, b, counts):
    """counts[part, :, label]: voxels of the label in a, in b, in both; labels uint16."""
    parts = counts.shape[0]
    for part in prange(parts):
        for i in range(np.int64(part), a.shape[0], parts):
            _overlap_slab(a[i], b[i], counts[part])


@device
def _count_run(labels, counts):
    """Runs of one label are added at once: each number waits for the one before at its place."""
    if labels.size == 0:
        return
    label, count = labels[0], np.int64(0)
    for n in range(labels.size):
        if labels[n] != label:
            counts[label] += count
            label, count = labels[n], np.int64(0)
        count += 1
    counts[label] += count


@kernel
def label_counts(labels, counts):
    """counts[part, label]: voxels of the label; labels uint16, in a line that parts divide."""
    parts = counts.shape[0]
    length = (labels.size + parts - 1) // parts
    for part in prange(parts):
        start = np.int64(part) * length
        _count_run(labels[start : start + length], counts[part])


@device
def _is_edge(labels, i, j, k):
    """Whether one of the six neighbours has another label, or lies outside the volume."""
    ni, nj, nk = labels.shape
    if i == 0 or j == 0 or k == 0 or i == ni - 1 or j == nj - 1 or k == nk - 1:
        return True
    label = labels[i, j, k]
    return (
        labels[i - 1, j, k] != label
        or labels[i + 1, j, k] != label
        or labels[i, j - 1, k] != label
        or labels[i, j + 1, k] != label
        or labels[i, j, k - 1] != label
        or labels[i, j, k + 1] != label
    )


@device
def _edge_slab(labels, i, edges):
    for j in range(labels.shape[1]):
        for k in range(labels.shape[2]):
            keep = labels[i, j, k] != 0 and _is_edge(labels, i, j, k)
            edges[j, k] = labels[i, j, k] if keep else 0


@kernel
def label_edges(labels, edges):
    """edges = labels where a voxel is on its label's surface, else 0; uint16."""
    for i in prange(labels.shape[0]):
        _edge_slab(labels, np.int64(i), edges[i])


@device
def _steps_to(edges, voxel, label, offsets):
    """The first offset, nearest first, that meets the label; -1 for none."""
    for n in range(offsets.shape[0]):
        i, j, k = voxel[0] + offsets[n, 0], voxel[1] + offsets[n, 1], voxel[2] + offsets[n, 2]
        if (
            0 <= i < edges.shape[0]
            and 0 <= j < edges.shape[1]
            and 0 <= k < edges.shape[2]
            and edges[i, j, k] == label
        ):
            return n
    return -1


@kernel
def nearest_edges(voxels, label, edges, offsets, found):
    """found[n]: which offset takes voxel n to the nearest edge of the label; -1 beyond the last.

    voxels (n, 3) and offsets (m, 3) int32, offsets sorted by distance.
    """
    block = 256
    for part in prange((voxels.shape[0] + block - 1) // block):
        first = np.int64(part) * block
        for n in range(first, min(first + block, voxels.shape[0])):
            found[n] = _steps_to(edges, voxels[n], label, offsets)


@device
def _lower_envelope(line, spacing, out, roots, starts):
    """out[p] = min over q of line[q] + (spacing (p - q))^2, by the lowest of the parabolas.

    Source: Felzenszwalb and Huttenlocher, Distance transforms of sampled functions, 2012.
    """
    square, top = spacing * spacing, -1
    for q in range(line.size):
        if line[q] == np.inf:
            continue
        start = -np.inf
        while top >= 0:
            p = roots[top]
            start = ((line[q] - line[p]) / square + q * q - p * p) / (2.0 * (q - p))
            if start > starts[top]:
                break
            top -= 1
            start = -np.inf
        top += 1
        roots[top], starts[top] = q, start
    n = 0
    for p in range(line.size):
        while n < top and starts[n + 1] < p:
            n += 1
        out[p] = line[roots[n]] + square * (p - roots[n]) ** 2 if top >= 0 else np.inf


@device
def _envelope_plane(plane, spacing):
    """Down the first axis of a plane, in place."""
    count = plane.shape[0]
    line, out = np.empty(count, np.float64), np.empty(count, np.float64)
    roots, starts = np.empty(count, np.int64), np.empty(count, np.float64)
    for n in range(plane.shape[1]):
        line[:] = plane[:, n]
        _lower_envelope(line, spacing, out, roots, starts)
        plane[:, n] = out


@kernel
def squared_distances(volume, spacing):
    """Squared distance to the nearest voxel that is 0, in place; the others come in as inf.

    float64 (i, j, k); spacing (3), float64.
    """
    for i in prange(volume.shape[0]):
        _envelope_plane(volume[i], spacing[1])
        _envelope_plane(volume[i].T, spacing[2])
    for j in prange(volume.shape[1]):
        _envelope_plane(volume[:, np.int64(j)], spacing[0])
