"""One image as the search for a start sees it: levels, what stands out, padded planes."""

from functools import cached_property

import numpy as np

from service.registration.grid import Grid
from service.registration.kernels.affinefit import MARGIN
from service.registration.pyramid import coarser
from service.registration.volume import Volume

# Voxels along the longest axis on each level; candidates are scored on the first. 112 on the last
# would take the affine .02 mm nearer between two visits of one head, for twice its time there.
ACROSS = (28, 56, 90)
LEVELS = len(ACROSS)

Planes = tuple[np.ndarray, np.ndarray]  # values, and 1 where they count; nothing where all do


class Scouted:
    """One image as the search sees it. What is not asked for is not computed; nothing is twice."""

    def __init__(self, volume: Volume, mask: Volume | None = None) -> None:
        """Nothing is computed yet."""
        self.grid = volume.grid
        self._volume, self._mask = volume, mask
        self._as_fixed: dict[int, tuple[np.ndarray, np.ndarray, float]] = {}
        self._as_moving: dict[int, Planes] = {}

    @property
    def mask(self) -> Volume | None:
        """Where the image counts, on any grid; None where everywhere."""
        return self._mask

    @cached_property
    def levels(self) -> list[Volume]:
        """The image on LEVELS levels, coarse to fine."""
        return _levels(self._volume)

    @cached_property
    def has_contrast(self) -> bool:
        return _has_contrast(self.levels[0])

    @cached_property
    def centre_of_mass_mm(self) -> np.ndarray:
        return _centre_of_mass(self.levels[0])

    def mirrored(self) -> "Scouted":
        """The same image left for right about its centre of mass, without its mask."""
        mirror = np.diag([-1.0, 1.0, 1.0, 1.0])
        mirror[0, 3] = 2 * self.centre_of_mass_mm[0]
        whole, *levels = (
            Volume(one.data, Grid(one.grid.shape, mirror @ one.grid.affine))
            for one in (self._volume, *self.levels)
        )
        twin = Scouted(whole)
        twin.levels = levels  # voxels are the same, only elsewhere
        return twin

    def as_fixed(self, level: int) -> tuple[np.ndarray, np.ndarray, float]:
        """The level as padded planes, its mask, and how many voxels that counts."""
        if level not in self._as_fixed:
            volume = self.levels[level]
            padded = np.pad(_standardised(volume.data), MARGIN, mode="edge")
            mask = np.pad(_mask_on(volume.grid, self._mask), MARGIN)
            planes = (padded.shape[0], padded.shape[1] * padded.shape[2])
            counted = float(np.count_nonzero(mask))
            self._as_fixed[level] = padded.reshape(planes), mask.reshape(planes), counted
        return self._as_fixed[level]

    def as_moving(self, level: int) -> Planes:
        """The level's values, and 1 where they count."""
        if level not in self._as_moving:
            volume = self.levels[level]
            mask = np.empty((0, 0, 0), np.float32)
            if self._mask is not None:
                mask = _mask_on(volume.grid, self._mask)
            self._as_moving[level] = _standardised(volume.data), mask
        return self._as_moving[level]


def _levels(volume: Volume) -> list[Volume]:
    """The volume on LEVELS levels, coarse to fine."""
    longest_mm, levels = float(volume.grid.extent_mm.max()), [volume]
    for across in ACROSS[::-1]:
        levels.append(coarser(levels[-1], longest_mm / across))
    return levels[:0:-1]


def _has_contrast(volume: Volume) -> bool:
    """Whether the values differ by more than resampling a constant makes them differ."""
    low, high = float(volume.data.min()), float(volume.data.max())
    return high - low > 1e-5 * max(abs(low), abs(high))


def _foreground(volume: Volume) -> np.ndarray:
    """What stands out from the border of the field of view, after Otsu's threshold.

    Background is the class that most of the border belongs to, so an inverted contrast does not
    turn the picture inside out.
    """
    data = volume.data
    above = data > _otsu(data)
    border = np.ones(data.shape, dtype=bool)
    border[1:-1, 1:-1, 1:-1] = False
    foreground: np.ndarray = ~above if above[border].mean() > 0.5 else above
    return foreground


def _otsu(data: np.ndarray) -> float:
    """The threshold between the two classes whose means lie furthest apart for their sizes."""
    counts, edges = np.histogram(data, bins=128)
    centres = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    mean_below = np.cumsum(counts * centres)[:-1] / np.maximum(below, 1)
    mean_above = ((counts * centres).sum() - np.cumsum(counts * centres)[:-1]) / np.maximum(
        above, 1
    )
    between = below * above * (mean_below - mean_above) ** 2
    return float(edges[1:-1][int(np.argmax(between))])


def _centre_of_mass(volume: Volume) -> np.ndarray:
    """World position of the middle of the foreground; of the field of view when there is none."""
    index: np.ndarray = np.argwhere(_foreground(volume))
    if not len(index):
        return volume.grid.centre_mm
    return volume.grid.to_world(index.mean(axis=0))


def _standardised(data: np.ndarray) -> np.ndarray:
    spread = float(data.std())
    return np.ascontiguousarray((data - data.mean()) / (spread if spread > 0 else 1.0), np.float32)


def _mask_on(grid: Grid, mask: Volume | None) -> np.ndarray:
    """1 where the mask says so at the grid's voxels, nearest voxel; 1 everywhere without a mask."""
    if mask is None:
        return np.ones(grid.shape, np.float32)
    points = grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1))
    index = np.rint(mask.grid.to_voxel(points)).astype(int)
    last = np.array(mask.grid.shape) - 1
    inside = ((index >= 0) & (index <= last)).all(axis=-1)
    i, j, k = np.moveaxis(np.clip(index, 0, last), -1, 0)
    return np.ascontiguousarray(inside & (mask.data[i, j, k] > 0), np.float32)
