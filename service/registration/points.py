"""Points, in the world or in a grid: two types, so that mixing them up is a type error."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float64

from service.errors import BadPointsError
from service.registration.grid import Grid

MOST_POINTS = 1_000_000  # of one file

Positions = Float64[np.ndarray, "n 3"]


class Transform(Protocol):
    """What moves points of the world: an affine or a displacement field."""

    def move(self, points_mm: Positions) -> Positions: ...


def _checked(positions: Positions, ids: tuple[str, ...] | None) -> Positions:
    positions = np.array(positions, dtype=np.float64)
    if positions.ndim != 2 or positions.shape[1] != 3:
        raise BadPointsError(f"Points have three coordinates each; the array is {positions.shape}.")
    if not np.isfinite(positions).all():
        raise BadPointsError("A coordinate of the points is not a finite number.")
    if ids is not None and len(ids) != len(positions):
        raise BadPointsError(f"There are {len(positions)} points but {len(ids)} names for them.")
    positions.setflags(write=False)
    return positions


@dataclass(frozen=True, eq=False)
class WorldPoints:
    """Points in world millimetres, RAS+, with a name each where the caller gave one.

    Raises:
        BadPointsError: If the array is not (n, 3), not finite, or the names are not n.
    """

    positions_mm: Positions
    ids: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "positions_mm", _checked(self.positions_mm, self.ids))

    def __len__(self) -> int:
        return len(self.positions_mm)

    def to_voxel(self, grid: Grid) -> "VoxelPoints":
        """The same points as fractional voxel indices of a grid."""
        return VoxelPoints(grid.to_voxel(self.positions_mm), self.ids)

    def unmoved_in(self, grid: Grid) -> str | None:
        """A sentence on points that a field on this grid leaves where they are, if any."""
        outside = int(np.count_nonzero(~grid.contains(self.positions_mm)))
        if not outside:
            return None
        return (
            f"{outside} of {len(self)} points lie outside the image's field of view, where there "
            "is no displacement; they were not moved."
        )

    def moved(self, transform: Transform) -> "WorldPoints":
        """Where a transform takes the points."""
        return WorldPoints(transform.move(self.positions_mm), self.ids)


@dataclass(frozen=True, eq=False)
class VoxelPoints:
    """Points as fractional voxel indices i, j, k; integers are voxel centres.

    Raises:
        BadPointsError: If the array is not (n, 3), not finite, or the names are not n.
    """

    indices: Positions
    ids: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "indices", _checked(self.indices, self.ids))

    def __len__(self) -> int:
        return len(self.indices)

    def to_world(self, grid: Grid) -> WorldPoints:
        """The same points in world millimetres."""
        return WorldPoints(grid.to_world(self.indices), self.ids)
