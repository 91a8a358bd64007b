"""Bring cases to the model grid exactly as the service's engine does.

The fixed image is resampled to the grid that the card's rule derives from it; the moving one goes
there through the initial affine; both are normalised there; then comes the padding. A fixed
`shape` is a window about the middle of that grid.
"""

from dataclasses import dataclass

import numpy as np

from service.registration.card import Intensity
from service.registration.fields import Affine, DisplacementField
from service.registration.grid import Grid
from service.registration.intensity import normalise
from service.registration.model_grid import model_grid, on_grid, through
from service.registration.points import WorldPoints
from service.registration.resample import resample, warp_labels
from service.registration.volume import Volume
from trainer.config.data import GridConfig
from trainer.data.reading import Labels
from trainer.data.shares import share_of, share_of_map


@dataclass(frozen=True)
class Placement:
    """Where a pair is seen: on a grid, through an affine, and what is cut out and padded.

    `affine` takes the fixed world to the moving one.
    """

    grid: Grid
    affine: Affine
    rule: GridConfig
    multiple: int

    @property
    def ndim(self) -> int:
        return self.rule.ndim

    def fixed_image(self, volume: Volume, intensity: Intensity) -> np.ndarray:
        """The fixed image as the network sees it, (*s)."""
        values = normalise(on_grid(volume, self.grid).as_float32().data, intensity)
        return self._shaped(values, self.rule.padding)

    def moving_image(self, volume: Volume, intensity: Intensity) -> np.ndarray:
        """The moving image as the network sees it, (*s)."""
        placed = through(volume, self.grid, self.affine)
        return self._shaped(normalise(placed.as_float32().data, intensity), self.rule.padding)

    def fixed_share(self, labels: Labels, label: int) -> np.ndarray:
        """The label's share of each voxel, (*s) in [0, 1]; outside 0."""
        return self._share(labels, label, None)

    def moving_share(self, labels: Labels, label: int) -> np.ndarray:
        """The same for a label of the moving image."""
        return self._share(labels, label, self.affine)

    def fixed_map(self, labels: Labels) -> np.ndarray:
        """One label for each voxel, (*s): the one with the largest share; outside 0."""
        return self._map(labels, Affine.identity())

    def moving_map(self, labels: Labels) -> np.ndarray:
        """The same for the moving image's labels."""
        return self._map(labels, self.affine)

    def fixed_mask(self, mask: Volume) -> np.ndarray:
        """1 where the mask says so, nearest voxel, (*s); outside 0."""
        return self._shaped(resample(mask, self.grid, interpolation="nearest").data, "zero")

    def moving_mask(self, mask: Volume) -> np.ndarray:
        """The same for the moving image's mask."""
        placed = resample(mask, self.grid, affine=self.affine, interpolation="nearest")
        return self._shaped(placed.data, "zero")

    def fixed_points(self, points: WorldPoints) -> np.ndarray:
        """(n, d) voxel positions."""
        return self._voxels(points)

    def moving_points(self, points: WorldPoints) -> np.ndarray:
        """(n, d) voxel positions on the same grid, where the affine has brought the image."""
        return self._voxels(points.moved(self.affine.inverse()))

    def _share(self, labels: Labels, label: int, affine: Affine | None) -> np.ndarray:
        if labels.is_map:
            share = share_of_map(labels, label, self.grid, affine)
        elif label > len(labels.data):
            share = np.zeros(self.grid.shape, np.float32)
        else:
            share = share_of(Volume(labels.data[label - 1], labels.grid), self.grid, affine)
        return self._shaped(share, "zero")

    def _map(self, labels: Labels, affine: Affine) -> np.ndarray:
        still = DisplacementField.zero(Grid((1, 1, 1), self.grid.affine))
        placed = warp_labels(
            Volume(labels.data, labels.grid),
            still,
            self.grid,
            affine=affine,
            interpolation="linear",
        )
        return self._shaped(placed.data, "zero")

    def _voxels(self, points: WorldPoints) -> np.ndarray:
        index = points.to_voxel(self.grid).indices[:, : self.ndim]
        return np.asarray(index - np.array(self._starts()), dtype=np.float32)

    def _starts(self) -> list[int]:
        """The first voxel of the window along each axis; below 0 where it is larger."""
        whole = self.grid.shape[: self.ndim]
        shape = self.rule.shape or whole
        return [(n - wanted) // 2 for n, wanted in zip(whole, shape, strict=True)]

    def _shaped(self, values: np.ndarray, padding: str) -> np.ndarray:
        """Cut to the window and padded to the network's multiple at the far end."""
        if self.ndim == 2:
            values = values[..., 0]
        for axis, (start, n) in enumerate(zip(self._starts(), values.shape, strict=True)):
            length = n if self.rule.shape is None else self.rule.shape[axis]
            values = _cut(values, axis, start, length, values.dtype.type(0))
        pad = [(0, -n % self.multiple) for n in values.shape]
        if any(after for _, after in pad):
            values = np.pad(values, pad, mode="edge" if padding == "edge" else "constant")
        return np.ascontiguousarray(values)


def place(rule: GridConfig, multiple: int, fixed: Grid, affine: Affine) -> Placement:
    """How a pair with this fixed grid is seen."""
    grid = model_grid(rule.rule(multiple), fixed, rule.ndim)
    return Placement(grid, affine, rule, multiple)


def _cut(values: np.ndarray, axis: int, start: int, length: int, fill: np.generic) -> np.ndarray:
    """`length` voxels from `start` on; what lies outside is `fill`."""
    n = values.shape[axis]
    if (start, length) == (0, n):
        return values
    kept = np.take(values, range(max(start, 0), min(start + length, n)), axis=axis)
    before = max(-start, 0)
    pad = [(0, 0)] * values.ndim
    pad[axis] = (before, length - before - kept.shape[axis])
    return np.pad(kept, pad, constant_values=fill)
