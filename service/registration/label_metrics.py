"""How well two label maps on one grid agree, label by label. Label 0 is background and left out."""

import math
from itertools import pairwise

import numpy as np
from jaxtyping import Float64, Int, Int32, UInt16

from service.registration.grid import Grid
from service.registration.kernels import measures
from service.registration.volume import Volume, as_label_map, require_same_grid

# Surfaces are searched outwards this far, in voxels along each axis; what is left is compared
# point by point.
_REACH_VOXELS = 6
_PARTS = 8

Labels = UInt16[np.ndarray, "i j k"]


def _labels(volume: Volume) -> Labels:
    return np.ascontiguousarray(as_label_map(volume).data, dtype=np.uint16)


def _counts(a: Labels, b: Labels) -> Int[np.ndarray, "3 label"]:
    """Voxels of each label in a, in b, and in both."""
    top = int(max(a.max(initial=0), b.max(initial=0)))
    counts = np.zeros((_PARTS, 3, top + 1), np.int64)
    measures.label_overlap(a, b, counts)
    return np.asarray(counts.sum(axis=0))


def dice(fixed: Volume, warped: Volume) -> dict[int, float]:
    """Dice overlap of each label, 2 |A and B| / (|A| + |B|); a label that only one has gets 0.

    Raises:
        GridMismatchError: If the maps lie on different grids.
        BadLabelsError: If a value is negative, not whole, or above 65535.
    """
    require_same_grid(warped, fixed, "labels")
    in_a, in_b, in_both = _counts(_labels(fixed), _labels(warped))
    present = [int(n) for n in np.flatnonzero(in_a + in_b) if n]
    return {n: float(2 * in_both[n] / (in_a[n] + in_b[n])) for n in present}


def label_volume_change(warped: Volume, moving: Volume) -> dict[int, float]:
    """Volume of each warped label over its volume in the moving map: 1 keeps it, 0 loses it.

    Only labels that the moving map has; their grids may differ.
    """
    after, before = (np.bincount(_labels(v).ravel()) for v in (warped, moving))
    after = np.pad(after, (0, max(0, before.size - after.size)))
    unit = warped.grid.voxel_volume_mm3 / moving.grid.voxel_volume_mm3
    return {int(n): float(after[n] / before[n] * unit) for n in np.flatnonzero(before) if n}


def hd95_mm(fixed: Volume, warped: Volume) -> dict[int, float]:
    """95th percentile of the distances between the surfaces of each label, in millimetres.

    A surface voxel has a face neighbour of another label, or lies at the volume's edge. For each
    direction the 95th percentile of the distances to the nearest surface voxel's centre; the larger
    of the two. A label that only one map has gets nan. Exact, for any spacing of orthogonal axes.

    Raises:
        GridMismatchError: If the maps lie on different grids.
        BadLabelsError: If a value is negative, not whole, or above 65535.
    """
    require_same_grid(warped, fixed, "labels")
    first, second = (_edges(_labels(v)) for v in (fixed, warped))
    there = _surface_distances(first, second, fixed.grid)
    back = _surface_distances(second, first, fixed.grid)
    return {n: max(there.get(n, math.nan), back.get(n, math.nan)) for n in sorted(there | back)}


def _edges(labels: Labels) -> Labels:
    edges = np.empty_like(labels)
    measures.label_edges(labels, edges)
    return edges


def _offsets(spacing_mm: np.ndarray) -> tuple[Int32[np.ndarray, "n 3"], Float64[np.ndarray, "n"]]:
    """Steps to the voxels around one and their lengths, nearest first, no gap up to the last."""
    reach_mm = _REACH_VOXELS * float(np.median(spacing_mm))
    most = [int(reach_mm / s) for s in spacing_mm]
    steps = np.stack(
        np.meshgrid(*[np.arange(-n, n + 1, dtype=np.int32) for n in most], indexing="ij"), -1
    ).reshape(-1, 3)
    lengths = np.linalg.norm(steps * spacing_mm, axis=1)
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] <= reach_mm]
    return np.ascontiguousarray(steps[order]), lengths[order]


def _surface_distances(edges: Labels, others: Labels, grid: Grid) -> dict[int, float]:
    """For each label, the 95th percentile of the distances from its edges to the others'."""
    voxels = np.argwhere(edges).astype(np.int32)
    labels = edges[edges != 0]
    offsets, lengths = _offsets(grid.spacing_mm)
    found = np.empty(len(voxels), np.int64)
    measures.nearest_edges(voxels, labels, others, offsets, found)
    distances = np.where(found >= 0, lengths[found], np.nan)
    order = np.argsort(labels, kind="stable")
    bounds = np.flatnonzero(np.diff(labels[order], prepend=0, append=0))
    result = {}
    for first, last in pairwise(bounds):
        members = order[first:last]
        label = int(labels[members[0]])
        near = _completed(distances[members], voxels[members], others, label, grid)
        result[label] = float(np.percentile(near, 95)) if near.size else math.nan
    return result


def _completed(
    distances: np.ndarray, voxels: np.ndarray, others: Labels, label: int, grid: Grid
) -> np.ndarray:
    """The distances, those beyond reach filled in; empty if the other map lacks the label."""
    far = np.flatnonzero(np.isnan(distances))
    if not far.size:
        return distances
    surface = np.argwhere(others == label).astype(np.int32)
    if not surface.size:
        return np.empty(0)
    squared = np.empty(far.size, np.float32)
    squares = (grid.spacing_mm**2).astype(np.float32)
    measures.nearest_of_list(np.ascontiguousarray(voxels[far]), surface, squares, squared)
    distances = distances.copy()
    distances[far] = np.sqrt(squared)
    return distances
