"""Random invertible maps, what a label map looks like through one, and from one to the other.

A map is T(x) = A(x + e(x)): e the displacement of a random velocity, A an affine about the grid's
centre, all in voxels. Velocities live on cells of a few voxels, with a margin around the grid so
that the map and its inverse agree up to the border.
"""

from dataclasses import dataclass
from functools import cached_property
from math import ceil, exp, pi

import numpy as np
import torch
from torch import Tensor

from trainer.augment.draws import smooth_field, uniform
from trainer.config.synth import SynthAffineConfig, SynthFieldConfig
from trainer.kernels import synthesis
from trainer.networks.spread import expand
from trainer.spatial import integrate

SQUARINGS = 6
# Nodes are at least so many cells apart, so that a cell's linear piece is close to the spline.
CELLS_OF_NODE = 4
MARGIN_CELLS = 4


@dataclass(frozen=True)
class Velocity:
    """(1, d, *cells): voxels per unit time, on cells of `stride` voxels with a margin."""

    values: Tensor
    stride: int

    @property
    def offset(self) -> float:
        """Position of the first cell's centre, in voxels."""
        return (self.stride - 1) / 2 - MARGIN_CELLS * self.stride

    def displacement(self, sign: int = 1) -> Tensor:
        """Of the velocity, or of its negative, which gives the inverse; on cells, in voxels."""
        return integrate(sign * self.values, SQUARINGS, self.stride)


@dataclass(frozen=True)
class Motion:
    """T(x) = A(x + e(x)) for the voxels x of a grid."""

    size: tuple[int, ...]
    affine: Tensor  # (d, d + 1), voxels: y = affine . (x, 1)
    velocity: Velocity

    @cached_property
    def field(self) -> np.ndarray:
        """e, (3, i, j, k); in 2-D i has one voxel and no motion."""
        cells = self.velocity.displacement()
        return _solid(expand(cells, self.size, self.velocity.stride, self.velocity.offset)[0])

    def labels(self, given: Tensor) -> Tensor:
        """given(T(x)), the nearest voxel's label, int32; 0 outside."""
        solid = given.reshape(-1, *given.shape[-2:]).contiguous().numpy()
        out = torch.empty(self.size, dtype=torch.int32)
        whole = out.reshape(-1, *self.size[-2:]).numpy()
        synthesis.labels_at(solid, self.field, _three_rows(self.affine), whole)
        return out

    def displacement_to(self, other: "Motion") -> Tensor:
        """u with other.T(x + u(x)) = T(x), (d, *s), voxels."""
        ndim = len(self.size)
        inverse = torch.linalg.inv(_square(other.affine))
        matrix = (inverse @ _square(self.affine))[:ndim]
        back = _solid(other.velocity.displacement(-1)[0])
        stride, first = np.ones(3, np.float32), np.zeros(3, np.float32)
        stride[3 - ndim :], first[3 - ndim :] = other.velocity.stride, other.velocity.offset
        out = np.empty_like(self.field)
        synthesis.chained(self.field, _three_rows(matrix), back, stride, first, out)
        return torch.from_numpy(out[3 - ndim :]).reshape(ndim, *self.size)


def _square(affine: Tensor) -> Tensor:
    last = torch.zeros(1, affine.shape[1], dtype=affine.dtype)
    last[0, -1] = 1
    return torch.cat([affine, last])


def _three_rows(affine: Tensor) -> np.ndarray:
    """(3, 4); in 2-D the first axis stays where it is."""
    matrix = np.eye(3, 4, dtype=np.float32)
    start = 3 - affine.shape[0]
    matrix[start:, start:] = affine.numpy()
    return matrix


def _solid(field: Tensor) -> np.ndarray:
    """(3, i, j, k) in order in memory; an image of two axes gets one voxel in front."""
    if field.shape[0] == 2:
        field = torch.cat([torch.zeros_like(field[:1]), field])[:, None]
    solid: np.ndarray = field.contiguous().numpy()
    return solid


def random_motion(
    affine: SynthAffineConfig,
    field: SynthFieldConfig,
    size: tuple[int, ...],
    spacing_mm: tuple[float, ...],
    draw: torch.Generator,
) -> Motion:
    """A random affine after a random diffeomorphism."""
    return Motion(
        size,
        random_affine(affine, size, spacing_mm, draw),
        random_velocity(field, size, spacing_mm, draw),
    )


def random_affine(
    config: SynthAffineConfig,
    size: tuple[int, ...],
    spacing_mm: tuple[float, ...],
    draw: torch.Generator,
) -> Tensor:
    """(d, d + 1) in voxels: about the centre shears, scales, then turns, in mm; and a shift."""
    ndim = len(spacing_mm)
    axes = [(0, 1), (0, 2), (1, 2)] if ndim == 3 else [(0, 1)]
    matrix = torch.eye(ndim, dtype=torch.float64)
    for one, other in axes:
        matrix[one, other] = uniform(draw, -config.shear, config.shear)
    scales = [exp(uniform(draw, -config.scale, config.scale)) for _ in range(ndim)]
    matrix = torch.diag(matrix.new_tensor(scales)) @ matrix
    largest = config.rotation_degrees * pi / 180
    for one, other in axes:
        turn = torch.zeros_like(matrix)
        turn[one, other] = uniform(draw, -largest, largest)
        matrix = torch.linalg.matrix_exp(turn - turn.T) @ matrix
    reach = config.translation_mm
    shift = matrix.new_tensor([uniform(draw, -reach, reach) for _ in range(ndim)])
    spacing, centre = matrix.new_tensor(spacing_mm), (matrix.new_tensor(size) - 1) / 2
    linear = matrix * spacing / spacing[:, None]
    moved = shift / spacing + centre - linear @ centre
    return torch.cat([linear, moved[:, None]], dim=1).float()


def random_velocity(
    config: SynthFieldConfig,
    size: tuple[int, ...],
    spacing_mm: tuple[float, ...],
    draw: torch.Generator,
) -> Velocity:
    """A smooth random velocity of a random spread up to `strength_mm`."""
    node_mm = uniform(draw, *config.node_mm)
    strength_mm = uniform(draw, 0, config.strength_mm)
    stride = max(1, int(node_mm / max(spacing_mm) / CELLS_OF_NODE))
    cells = [ceil(n / stride) + 2 * MARGIN_CELLS for n in size]
    values = smooth_field(draw, len(size), cells, [node_mm / mm / stride for mm in spacing_mm])
    voxels = strength_mm / torch.tensor(spacing_mm).reshape(-1, *[1] * len(size))
    return Velocity((voxels * values)[None].contiguous(), stride)
