"""Random affines and smooth fields, independent for fixed and moving, or shared.

An image becomes out(x) = image(T(x)), T(x) = A(x + u(x)): u an integrated random velocity, A a
random affine about the grid's centre, so that each image is interpolated once. A point p goes to
the x with T(x) = p.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

from trainer.augment.draws import happens, smooth_field, uniform
from trainer.config.augment import AffineAugment, AugmentConfig, FieldAugment
from trainer.data.batch import Batch
from trainer.spatial import affine_displacement, integrate, upsample, warp

SQUARINGS = 6
SMOOTH_VOXELS = 8  # from this distance of nodes on, a field is integrated on cells of 2 voxels
POINT_STEPS = 30  # u changes by well under a voxel from one to the next, so this converges


@dataclass(frozen=True)
class Motion:
    """A: (b, d, d + 1) about the centre, in voxels; u: (b, d, *s), voxels."""

    matrix: Tensor
    field: Tensor | None
    size: tuple[int, ...]

    def displacement(self) -> Tensor:
        """T(x) - x, (b, d, *s)."""
        whole: Tensor = affine_displacement(self.matrix, self.size)
        if self.field is None:
            return whole
        ndim = len(self.size)
        turned = torch.einsum("bij,bj...->bi...", self.matrix[:, :, :ndim], self.field)
        return whole + turned

    def points(self, points: Tensor) -> Tensor:
        """Where points (b, n, d) of the image lie after it: x with T(x) = p. NaN stays."""
        ndim = len(self.size)
        centre = (torch.tensor(self.size, dtype=points.dtype, device=points.device) - 1) / 2
        linear, shift = self.matrix[:, :, :ndim], self.matrix[:, None, :, ndim]
        goal: Tensor = (points - centre - shift) @ torch.linalg.inv(linear).mT + centre
        if self.field is None:
            return goal
        place = goal
        for _ in range(POINT_STEPS):
            place = goal - sampled(self.field, place)
        return place


def moved(batch: Batch, config: AugmentConfig, draw: torch.Generator) -> Batch:
    """The batch after random affines and smooth fields; its true displacement is lost."""
    fixed, moving = _draw_motions(batch, config, draw)
    changed = _applied(batch, "fixed", fixed) | _applied(batch, "moving", moving)
    here, there = changed.get("fixed_labels"), changed.get("moving_labels")
    if here is not None and there is not None and batch.label_present is not None:
        present = batch.label_present & _is_there(here) & _is_there(there)
        keep = present.reshape(*present.shape, *[1] * len(batch.size))
        changed |= {"fixed_labels": here * keep, "moving_labels": there * keep}
        changed["label_present"] = present
    return replace(batch, **changed, displacement=None)


def _is_there(labels: Tensor) -> Tensor:
    return labels.flatten(2).amax(dim=2) > 0


def _applied(batch: Batch, role: str, motion: Motion) -> dict[str, Any]:
    """Image, labels, mask and points of one role after a motion.

    Outside the image lies its lowest value, outside labels and masks 0.
    """
    u = motion.displacement()
    image: Tensor = getattr(batch, role)
    low = image.flatten(1).amin(dim=1).reshape(-1, *[1] * (image.ndim - 1))
    changed: dict[str, Any] = {role: warp(image - low, u) + low}
    if (labels := getattr(batch, f"{role}_labels")) is not None:
        changed[f"{role}_labels"] = warp(labels, u)
    if (mask := getattr(batch, f"{role}_mask")) is not None:
        changed[f"{role}_mask"] = warp(mask, u, mode="nearest")
    if (points := getattr(batch, f"{role}_points")) is not None:
        changed[f"{role}_points"] = motion.points(points)
    return changed


def _draw_motions(
    batch: Batch, config: AugmentConfig, draw: torch.Generator
) -> tuple[Motion, Motion]:
    size, device = batch.size, batch.fixed.device
    matrices: dict[str, list[Tensor]] = {"fixed": [], "moving": []}
    fields: dict[str, list[Tensor]] = {"fixed": [], "moving": []}
    for _ in range(len(batch)):
        affines = _twice(config.affine, lambda c: random_affine(c, size, draw))
        moves = _twice(config.field, lambda c: random_field(c, size, batch.spacing_mm, draw))
        for n, role in enumerate(matrices):
            matrices[role].append(affines[n] if affines else _still(len(size)))
            fields[role] += moves[n : n + 1]
    fixed, moving = (
        Motion(
            torch.stack(matrices[role]).to(device),
            torch.stack(fields[role]).to(device) if fields[role] else None,
            size,
        )
        for role in ("fixed", "moving")
    )
    return fixed, moving


def _twice(config: Any, make: Any) -> list[Tensor]:
    """One for each image, or one for both; none where nothing is configured."""
    if config is None:
        return []
    first: Tensor = make(config)
    return [first, first if config.shared else make(config)]


def _still(ndim: int) -> Tensor:
    return torch.eye(ndim, ndim + 1)


def random_affine(config: AffineAugment, size: tuple[int, ...], draw: torch.Generator) -> Tensor:
    """(d, d + 1), voxels about the centre: the map that moves d + 1 corners at random.

    In units of half the extent, corner c goes to c (1 - scale r), r uniform in [0, 1) (or (-1, 1))
    for each coordinate.

    Source: DeepReg's and label-reg's affine augmentation.
    """
    ndim = len(size)
    is_moved = happens(draw, config.probability)
    corners = -torch.ones(ndim + 1, ndim)
    corners[1:] += 2 * torch.eye(ndim)
    noise = torch.rand((ndim + 1, ndim), generator=draw)
    if config.outwards:
        noise = 2 * noise - 1
    if not is_moved:
        return _still(ndim)
    goal = corners * (1 - config.scale * noise)
    known = torch.cat([corners, torch.ones(ndim + 1, 1)], dim=1)
    unit = torch.linalg.solve(known, goal).T  # (d, d + 1), in half extents
    half = ((torch.tensor(size, dtype=torch.float32) - 1) / 2).clamp(min=0.5)
    matrix: Tensor = unit * half[:, None]
    matrix[:, :ndim] /= half
    return matrix


def random_field(
    config: FieldAugment,
    size: tuple[int, ...],
    spacing_mm: tuple[float, ...],
    draw: torch.Generator,
) -> Tensor:
    """(d, *s), voxels: the displacement of a smooth random velocity.

    Its spread is drawn up to `strength_mm`, the same along each axis.
    """
    is_moved = happens(draw, config.probability)
    strength_mm = uniform(draw, 0, config.strength_mm)
    stride = 2 if config.node_mm / max(spacing_mm) >= SMOOTH_VOXELS else 1
    cells = [-(-n // stride) for n in size]
    apart = [config.node_mm / spacing / stride for spacing in spacing_mm]
    velocity = smooth_field(draw, len(size), cells, apart)
    if not is_moved:
        return torch.zeros((len(size), *size))
    scale = torch.tensor([strength_mm / spacing / stride for spacing in spacing_mm])
    velocity = velocity * scale.reshape(-1, *[1] * len(size))
    return upsample(stride * integrate(velocity[None], SQUARINGS), stride, size)[0]


def sampled(field: Tensor, points: Tensor) -> Tensor:
    """The field (b, d, *s) at points (b, n, d): linear, clamped at the border."""
    size = torch.tensor(field.shape[2:], dtype=points.dtype, device=points.device)
    unit = points * (2 / (size - 1).clamp(min=1)) - 1
    ndim = len(field.shape) - 2
    grid = unit.flip(-1).reshape(len(points), *[1] * (ndim - 1), -1, ndim)
    found = F.grid_sample(field, grid, padding_mode="border", align_corners=True)
    rows: Tensor = found.reshape(*found.shape[:2], -1).mT
    return rows
