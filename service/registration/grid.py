"""Where voxels lie in space."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from service.errors import BadAffineError, BadDimensionsError

Matrix4 = Float[np.ndarray, "4 4"]
Points = Float[np.ndarray, "*batch 3"]

# Two grids are the same when no corner is further apart than this share of a voxel.
SAME_GRID_TOLERANCE_VOXELS = 1e-3
LAST_ROW, LAST_ROW_TOLERANCE = np.array([0.0, 0.0, 0.0, 1.0]), np.array([1e-8, 1e-8, 1e-8, 1e-5])


def ends_as_affine(matrix: Matrix4) -> bool:
    """Whether the last row is 0 0 0 1, but for rounding."""
    # np.allclose takes ten times as long, and a registration makes a hundred of these.
    return bool((np.abs(matrix[3] - LAST_ROW) <= LAST_ROW_TOLERANCE).all())


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular lattice of voxel centres.

    `affine` takes voxel indices (i, j, k) to world millimetres, RAS+; the integer index is the
    voxel's centre, so the volume covers [-0.5, n - 0.5] along each axis.

    Raises:
        BadDimensionsError: If an axis has no voxel.
        BadAffineError: If the matrix is not finite, not invertible, or not an affine one.
    """

    shape: tuple[int, int, int]
    affine: Matrix4

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        if len(shape) != 3 or min(shape) < 1:
            raise BadDimensionsError("A volume needs at least one voxel along each of three axes.")
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise BadAffineError("The voxel-to-world matrix must be 4x4 and finite.")
        if not ends_as_affine(affine):
            raise BadAffineError("The voxel-to-world matrix must end in the row 0 0 0 1.")
        if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise BadAffineError("The voxel-to-world matrix is singular.")
        affine.setflags(write=False)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    @cached_property
    def inverse_affine(self) -> Matrix4:
        """World millimetres to voxel indices."""
        inverse = np.linalg.inv(self.affine)
        inverse.setflags(write=False)
        return inverse

    @cached_property
    def spacing_mm(self) -> Float[np.ndarray, "3"]:
        """Distance between neighbouring voxel centres along i, j and k."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def directions(self) -> Float[np.ndarray, "3 3"]:
        """Unit vectors of the i, j and k axes in the world, as columns."""
        return np.asarray(self.affine[:3, :3] / self.spacing_mm)

    @property
    def voxel_count(self) -> int:
        return int(np.prod([int(n) for n in self.shape], dtype=object))

    @property
    def voxel_volume_mm3(self) -> float:
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def centre_mm(self) -> Float[np.ndarray, "3"]:
        """World position of the middle of the field of view."""
        return self.to_world((np.array(self.shape, dtype=np.float64) - 1) / 2)

    @property
    def extent_mm(self) -> Float[np.ndarray, "3"]:
        """Size of the field of view along i, j and k, voxel edges included."""
        return np.asarray(self.spacing_mm * np.array(self.shape))

    @property
    def is_left_handed(self) -> bool:
        return bool(np.linalg.det(self.affine[:3, :3]) < 0)

    @property
    def shear(self) -> float:
        """Largest cosine between two axes; 0 for an orthonormal grid."""
        gram = self.directions.T @ self.directions
        return float(np.abs(gram - np.eye(3)).max())

    def to_world(self, voxels: Points) -> Points:
        """Voxel indices, also fractional, to world millimetres."""
        index = np.asarray(voxels, dtype=np.float64)
        return np.asarray(index @ self.affine[:3, :3].T + self.affine[:3, 3])

    def to_voxel(self, world_mm: Points) -> Points:
        """World millimetres to fractional voxel indices."""
        inverse, position = self.inverse_affine, np.asarray(world_mm, dtype=np.float64)
        return np.asarray(position @ inverse[:3, :3].T + inverse[:3, 3])

    def corners_mm(self) -> Float[np.ndarray, "8 3"]:
        """World positions of the centres of the eight corner voxels."""
        index = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape], indexing="ij"))
        return self.to_world(index.reshape(3, 8).T)

    def contains(self, world_mm: Points) -> np.ndarray:
        """Which points lie in a voxel: index in [-0.5, n - 0.5] along each axis, as ITK has it."""
        voxels = self.to_voxel(world_mm)
        upper = np.array(self.shape) - 0.5
        inside = (voxels >= -0.5) & (voxels <= upper)
        return np.asarray(inside[..., 0] & inside[..., 1] & inside[..., 2])  # faster than `all`

    def overlaps(self, other: "Grid") -> bool:
        """Whether the two fields of view meet, voxel edges included.

        Two boxes are apart exactly when they are apart along one of fifteen axes: the edges of
        either, and the cross products of an edge of one with an edge of the other.

        Source: Gottschalk et al., OBBTree, SIGGRAPH 1996, section 5.
        """
        mine, theirs = self.directions, other.directions
        crossed = np.cross(mine.T[:, None], theirs.T[None]).reshape(9, 3)
        axes = np.vstack([mine.T, theirs.T, crossed])
        apart_mm = np.abs(axes @ (other.centre_mm - self.centre_mm))
        reach_mm = (
            np.abs(axes @ mine) @ self.extent_mm + np.abs(axes @ theirs) @ other.extent_mm
        ) / 2
        return bool((apart_mm <= reach_mm + 1e-6).all())

    def is_same(self, other: "Grid") -> bool:
        """Whether every voxel of the two lies at the same place, to a thousandth of a voxel."""
        if self.shape != other.shape:
            return False
        apart_mm = np.abs(self.corners_mm() - other.corners_mm()).max()
        return bool(apart_mm <= SAME_GRID_TOLERANCE_VOXELS * self.spacing_mm.min())

    def resampled(self, spacing_mm: float | tuple[float, float, float]) -> "Grid":
        """The same axes and field of view (centre kept, rounded up) with another spacing."""
        wanted = np.broadcast_to(np.asarray(spacing_mm, dtype=np.float64), (3,))
        shape = np.maximum(1, np.ceil(self.extent_mm / wanted - 1e-6)).astype(int)
        affine = np.eye(4)
        affine[:3, :3] = self.directions * wanted
        affine[:3, 3] = self.centre_mm - affine[:3, :3] @ ((shape - 1) / 2)
        return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)

    def no_finer_than(self, spacing_mm: float | Float[np.ndarray, "3"]) -> "Grid":
        """The same axes and field of view with at least this spacing along each axis.

        An axis that is as coarse already, or within a twentieth, keeps its voxels.
        """
        is_coarser = np.asarray(spacing_mm) > 1.05 * self.spacing_mm
        wanted = np.where(is_coarser, spacing_mm, self.spacing_mm)
        return self.resampled((float(wanted[0]), float(wanted[1]), float(wanted[2])))

    def coarsened(self, voxel_count: int) -> "Grid":
        """The same axes and field of view with about so many voxels, nearly isotropic."""
        spacing_mm = (float(np.prod(self.extent_mm)) / voxel_count) ** (1 / 3)
        return self.no_finer_than(spacing_mm)
