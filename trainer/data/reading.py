"""Read a case's image, labels, points and mask, whatever they are stored in."""

from dataclasses import dataclass

import numpy as np

from service.errors import BadLabelsError, NotOneVolumeError
from service.registration.files.limits import Limits
from service.registration.files.points_file import read_points
from service.registration.files.volume_file import check_header, read_volume
from service.registration.grid import Grid
from service.registration.points import WorldPoints
from service.registration.volume import Volume, as_label_map
from trainer.data.cases import Source
from trainer.data.hdf5 import hdf5_header, hdf5_points, hdf5_values
from trainer.data.stacks import check_stack, is_stack, read_stack

LIMITS = Limits()
Spacing = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels of one image on one grid: a map of values (i, j, k), or shares (n, i, j, k) in [0, 1].

    Share number n is label n + 1. `first` and `last`, (labels, 3), hold where each label of a map
    begins and ends along each axis; row n is label n.
    """

    data: np.ndarray
    grid: Grid
    first: np.ndarray
    last: np.ndarray

    @classmethod
    def of(cls, data: np.ndarray, grid: Grid) -> "Labels":
        """Labels with their bounds, of shares none."""
        if data.ndim == 3:
            return cls(data, grid, *bounds(data))
        return cls(data, grid, *np.zeros((2, 0, 3), np.int64))

    @property
    def is_map(self) -> bool:
        return self.data.ndim == 3

    def values(self) -> tuple[int, ...]:
        """The labels that there are, background left out."""
        if self.is_map:
            there = np.flatnonzero((self.last >= self.first).all(axis=1))
            return tuple(int(value) for value in there if value > 0)
        return tuple(n + 1 for n, share in enumerate(self.data) if share.any())


def bounds(data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last index of each label along each axis, (labels, 3); last < first where none is.

    Row n is label n; background, 0, included.
    """
    count = int(data.max()) + 1 if data.size else 1
    first, last = np.full((count, 3), np.iinfo(np.int32).max), np.full((count, 3), -1)
    for axis in range(3):
        for n, plane in enumerate(np.moveaxis(data, axis, 0)):
            there = np.flatnonzero(np.bincount(plane.ravel(), minlength=count))
            first[there, axis] = np.minimum(first[there, axis], n)
            last[there, axis] = n
    return first, last


def header_of(source: Source, spacing_mm: Spacing) -> tuple[Grid, int]:
    """The grid of a source, and the length of its fourth axis (1 where there is none).

    Raises:
        InvalidFileError: Its subclass says what is wrong.
    """
    if source.key is not None:
        return hdf5_header(source, spacing_mm, LIMITS)
    if is_stack(source.path):
        stack = check_stack(source.path, LIMITS)
        return stack.grid, stack.count
    return check_header(source.path, LIMITS).grid, 1


def read_image(source: Source, spacing_mm: Spacing) -> Volume:
    """An image, or a slice as a volume of one voxel along k.

    Raises:
        InvalidFileError: Its subclass says what is wrong.
    """
    data, grid = _values(source, spacing_mm)
    if data.shape[3] != 1:
        raise NotOneVolumeError(f"The file holds {data.shape[3]} volumes; an image is one.")
    return Volume(data[..., 0], grid)


def read_labels(source: Source, spacing_mm: Spacing) -> Labels:
    """Labels: of whole numbers a map; a fourth axis, or fractions in [0, 1], are shares.

    Raises:
        InvalidFileError: Its subclass says what is wrong; BadLabelsError for values that are
            neither labels nor shares.
    """
    data, grid = _values(source, spacing_mm)
    is_share = data.dtype.kind == "f" and float(data.min()) >= 0 and float(data.max()) <= 1
    if data.shape[3] == 1 and not (is_share and (data != np.rint(data)).any()):
        return Labels.of(as_label_map(Volume(data[..., 0], grid)).data, grid)
    if float(data.min()) < 0 or float(data.max()) > 1:
        raise BadLabelsError(
            "The fourth axis of a label file holds one label each, with values from 0 to 1."
        )
    return Labels.of(np.ascontiguousarray(np.moveaxis(data, 3, 0), dtype=np.float32), grid)


def read_mask(source: Source, spacing_mm: Spacing) -> Volume:
    """A mask: 1 where the file is above 0.

    Raises:
        InvalidFileError: Its subclass says what is wrong.
    """
    volume = read_image(source, spacing_mm)
    return volume.with_data((volume.data > 0).astype(np.uint8))


def read_landmarks(source: Source) -> WorldPoints:
    """Points in world millimetres, RAS+, with their names where they have some.

    Raises:
        BadPointsError: If they are no points.
    """
    if source.key is not None:
        return WorldPoints(hdf5_points(source))
    return read_points(source.path)


def matched(fixed: WorldPoints, moving: WorldPoints) -> tuple[WorldPoints, WorldPoints]:
    """Corresponding points: those of one name where both have names, else row by row."""
    if fixed.ids is None or moving.ids is None:
        count = min(len(fixed), len(moving))
        return WorldPoints(fixed.positions_mm[:count]), WorldPoints(moving.positions_mm[:count])
    row = {name: n for n, name in enumerate(moving.ids)}
    pairs = [(n, row[name]) for n, name in enumerate(fixed.ids) if name in row]
    here, there = np.array(pairs, dtype=int).reshape(-1, 2).T
    return WorldPoints(fixed.positions_mm[here]), WorldPoints(moving.positions_mm[there])


def _values(source: Source, spacing_mm: Spacing) -> tuple[np.ndarray, Grid]:
    """(i, j, k, n) and the grid."""
    if source.key is not None:
        return hdf5_values(source, spacing_mm, LIMITS)
    if is_stack(source.path):
        return read_stack(source.path, LIMITS)
    volume = read_volume(source.path, LIMITS)
    return volume.data[..., None], volume.grid
