"""What moves points: an affine, a displacement field, a velocity field. World millimetres, RAS+."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Float, Float32, Float64

from service.errors import BadTransformError, FieldError
from service.registration.grid import Grid, ends_as_affine

Points = Float[np.ndarray, "*batch 3"]
WorldPositions = Float64[np.ndarray, "*batch 3"]
Vectors = Float32[np.ndarray, "i j k 3"]

_CORNERS = tuple((a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1))


@dataclass(frozen=True, eq=False)
class Affine:
    """A linear map of the world: y = matrix @ (x, 1). Fixed to moving, where it aligns a pair.

    Raises:
        BadTransformError: If the matrix is not 4x4, not finite, singular, or not an affine one.
    """

    matrix: Float64[np.ndarray, "4 4"]

    def __post_init__(self) -> None:
        matrix = np.array(self.matrix, dtype=np.float64)
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
            raise BadTransformError("An affine transform is a finite 4x4 matrix.")
        if not ends_as_affine(matrix):
            raise BadTransformError("An affine transform ends in the row 0 0 0 1.")
        if abs(np.linalg.det(matrix[:3, :3])) < 1e-9:
            raise BadTransformError("The affine transform is singular: it flattens space.")
        matrix.setflags(write=False)
        object.__setattr__(self, "matrix", matrix)

    @classmethod
    def identity(cls) -> "Affine":
        return cls(np.eye(4))

    def move(self, points_mm: Points) -> WorldPositions:
        """Where points go."""
        points = np.asarray(points_mm, dtype=np.float64)
        moved: WorldPositions = points @ self.matrix[:3, :3].T + self.matrix[:3, 3]
        return moved

    def inverse(self) -> "Affine":
        return Affine(np.linalg.inv(self.matrix))

    def compose(self, inner: "Affine") -> "Affine":
        """First `inner`, then this one."""
        return Affine(self.matrix @ inner.matrix)

    def __matmul__(self, inner: "Affine") -> "Affine":
        return self.compose(inner)


def _is_finite(vectors: Vectors) -> bool:
    """Whether every value is. A sum is fast, and finite only when all of them are."""
    with np.errstate(invalid="ignore", over="ignore"):
        total = vectors.sum()
    return bool(np.isfinite(total) or np.isfinite(vectors).all())


@dataclass(frozen=True, eq=False)
class _VectorField:
    """A vector in world millimetres for every voxel of a grid; treat the array as read-only.

    Raises:
        FieldError: If the array does not fit the grid or holds a value that is not finite.
    """

    vectors_mm: Vectors
    grid: Grid

    def __post_init__(self) -> None:
        vectors = np.ascontiguousarray(self.vectors_mm, dtype=np.float32)
        if vectors.shape != (*self.grid.shape, 3):
            raise FieldError(
                f"The vectors have shape {vectors.shape}, their grid {self.grid.shape}."
            )
        if not _is_finite(vectors):
            raise FieldError("The field holds values that are not finite.")
        object.__setattr__(self, "vectors_mm", vectors)

    @classmethod
    def of_finite(cls, vectors_mm: Vectors, grid: Grid) -> Self:
        """A field whose vectors fit their grid and are known to be finite: nobody looks again."""
        field = object.__new__(cls)
        object.__setattr__(field, "vectors_mm", vectors_mm)
        object.__setattr__(field, "grid", grid)
        return field

    def at(self, points_mm: Points) -> WorldPositions:
        """The vectors at points: linear between voxels; zero outside the grid, as ITK has it.

        Inside means a voxel index in [-0.5, n - 0.5], which is then clamped to [0, n - 1].
        """
        index = self.grid.to_voxel(points_mm)
        last = np.array(self.grid.shape) - 1
        inside = np.asarray(((index >= -0.5) & (index <= last + 0.5)).all(axis=-1))
        index = np.where(inside[..., None], np.clip(index, 0, last), 0.0)
        lower = np.minimum(index.astype(np.intp), np.maximum(last - 1, 0))
        upper, share = np.minimum(lower + 1, last), np.moveaxis(index - lower, -1, 0)
        ends = [(1 - part, part) for part in share]
        steps = np.array((*self.grid.shape[1:], 1))  # of a flat index, axis by axis
        steps[0] *= steps[1]
        places = [np.moveaxis(end * steps, -1, 0) for end in (lower, upper)]
        line, vectors = self.vectors_mm.reshape(-1, 3), np.zeros(index.shape)
        for a, b, c in _CORNERS:
            weight = ends[0][a] * ends[1][b] * ends[2][c]
            place = places[a][0] + places[b][1] + places[c][2]
            vectors += weight[..., None] * line[place]
        return np.where(inside[..., None], vectors, 0.0)


@dataclass(frozen=True, eq=False)
class DisplacementField(_VectorField):
    """A displacement u: x goes to x + u(x), mm, RAS+.

    Raises:
        FieldError: If the array does not fit the grid or holds a value that is not finite.
    """

    @classmethod
    def zero(cls, grid: Grid) -> "DisplacementField":
        """The field that moves nothing."""
        return cls(np.zeros((*grid.shape, 3), dtype=np.float32), grid)

    def move(self, points_mm: Points) -> WorldPositions:
        """Where points go: p + u(p); points outside the grid stay where they are."""
        return np.asarray(np.asarray(points_mm, dtype=np.float64) + self.at(points_mm))


@dataclass(frozen=True, eq=False)
class VelocityField(_VectorField):
    """A stationary velocity, mm per unit of time, RAS+; zero outside its grid.

    Raises:
        FieldError: If the array does not fit the grid or holds a value that is not finite.
    """
