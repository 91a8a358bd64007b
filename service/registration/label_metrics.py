"""How well two label maps on one grid agree, label by label. Label 0 is background and left out."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float64, Int, Int32, UInt16

from service.registration.kernels import measures
from service.registration.volume import Volume, as_label_map, require_same_grid

# Surfaces are searched outwards this far, in voxels.
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
    after, before = (_voxels_of_each(as_label_map(v).data) for v in (warped, moving))
    after = np.pad(after, (0, max(0, before.size - after.size)))
    unit = warped.grid.voxel_volume_mm3 / moving.grid.voxel_volume_mm3
    return {int(n): float(after[n] / before[n] * unit) for n in np.flatnonzero(before) if n}


def _voxels_of_each(labels: np.ndarray) -> Int[np.ndarray, "label"]:
    """How many voxels each label has."""
    line = labels.ravel(order="K").astype(np.uint16, copy=False)
    counts = np.zeros((_PARTS, int(line.max(initial=0)) + 1), np.int64)
    measures.label_counts(line, counts)
    return np.asarray(counts.sum(axis=0))


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
    first, second = (_Surfaces.of(_labels(v)) for v in (fixed, warped))
    spacing = fixed.grid.spacing_mm
    there, back = first.reach(second, spacing), second.reach(first, spacing)
    return {n: max(there.get(n, math.nan), back.get(n, math.nan)) for n in sorted(there | back)}


@dataclass(frozen=True, eq=False)
class _Surfaces:
    """The surface voxels of a label map: as a map, and as lists by label."""

    edges: Labels
    voxels: dict[int, Int32[np.ndarray, "n 3"]]

    @classmethod
    def of(cls, labels: Labels) -> "_Surfaces":
        edges = np.empty_like(labels)
        measures.label_edges(labels, edges)
        voxels, values = np.argwhere(edges).astype(np.int32), edges[edges != 0]
        order = np.argsort(values, kind="stable")
        voxels, values = voxels[order], values[order]
        bounds = np.flatnonzero(np.diff(values, prepend=0, append=0))
        return cls(edges, {int(values[a]): voxels[a:b] for a, b in pairwise(bounds)})

    def reach(self, others: "_Surfaces", spacing_mm: np.ndarray) -> dict[int, float]:
        """For each label, the 95th percentile of the distances from here to the others'.

        Most are near, and searched for outwards; where too many are not, by a distance transform.
        """
        offsets, lengths = _offsets(spacing_mm)
        reached = {}
        for label, voxels in self.voxels.items():
            found = np.empty(len(voxels), np.int64)
            measures.nearest_edges(voxels, label, others.edges, offsets, found)
            distances = np.where(found >= 0, lengths[found], np.inf)
            if (found < 0).mean() > 0.04:
                distances = _far_distances(voxels, others.voxels.get(label), spacing_mm)
            reached[label] = _percentile_95(distances)
        return reached


def _percentile_95(distances: np.ndarray) -> float:
    """nan where there are none; of infinite ones, only those above the percentile are allowed."""
    if not distances.size:
        return math.nan
    finite = np.minimum(distances, np.finfo(np.float64).max)
    return float(np.percentile(finite, 95))


def _offsets(spacing_mm: np.ndarray) -> tuple[Int32[np.ndarray, "n 3"], Float64[np.ndarray, "n"]]:
    """Steps to the voxels around one and their lengths, nearest first, all up to the last's."""
    reach_mm = _REACH_VOXELS * float(np.median(spacing_mm))
    most = [int(reach_mm / s) for s in spacing_mm]
    axes = [np.arange(-n, n + 1, dtype=np.int32) for n in most]
    steps = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    lengths = np.linalg.norm(steps * spacing_mm, axis=1)
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] <= reach_mm]
    return np.ascontiguousarray(steps[order]), lengths[order]


def _far_distances(
    voxels: np.ndarray, surface: np.ndarray | None, spacing_mm: np.ndarray
) -> np.ndarray:
    """Distances from voxels to a surface anywhere; empty where there is none."""
    if surface is None:
        return np.empty(0)
    low = np.minimum(voxels.min(axis=0), surface.min(axis=0))
    high = np.maximum(voxels.max(axis=0), surface.max(axis=0))
    squared = np.full(high - low + 1, np.inf)
    squared[tuple((surface - low).T)] = 0
    measures.squared_distances(squared, spacing_mm)
    return np.asarray(np.sqrt(squared[tuple((voxels - low).T)]))
