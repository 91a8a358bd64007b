"""What an alignment carries over, only what is wanted: field, image, labels, points."""

from dataclasses import dataclass

import numpy as np

from service.registration.alignment import Alignment
from service.registration.fields import Affine, DisplacementField, WorldPositions
from service.registration.grid import Grid
from service.registration.kernels import inverse
from service.registration.options import WarpOptions
from service.registration.points import WorldPoints
from service.registration.resample import compose_affine, in_voxels, warp, warp_both, warp_labels
from service.registration.tracked import FieldWanted, half_grid
from service.registration.volume import Volume

# Of a voxel of the field; and the most steps, of the fixed point and then Newton's.
POINT_TOLERANCE_VOXELS, POINT_STEPS = 1e-3, 50


@dataclass(frozen=True, eq=False)
class Wish:
    """What is carried over; None and `none` are not."""

    field: FieldWanted = "none"
    image: Volume | None = None
    labels: Volume | None = None
    fixed_points: WorldPoints | None = None
    moving_points: WorldPoints | None = None


@dataclass(frozen=True, eq=False)
class Carried:
    """`field` is the whole transform, `points` those of either side in the other's space."""

    field: DisplacementField | None = None
    image: Volume | None = None
    labels: Volume | None = None
    points: WorldPoints | None = None


def carry(alignment: Alignment, grid: Grid, wish: Wish, options: WarpOptions) -> Carried:
    """Carry over what is wished for, onto the fixed grid.

    Images and labels are pulled through the full field where that is wanted, as `produce` does,
    else through the alignment's own, coarser one: the same places, to rounding.
    """
    field = _field(alignment, grid, wish.field)
    is_full = field is not None and wish.field == "full"
    through = field if field is not None and is_full else alignment.field
    affine = None if is_full else alignment.affine
    image, labels = _pulled(wish, alignment.labels, (through, grid, affine), options)
    return Carried(field, image, labels, _points(alignment, wish))


def _pulled(
    wish: Wish,
    found: Volume | None,
    way: tuple[DisplacementField, Grid, Affine | None],
    options: WarpOptions,
) -> tuple[Volume | None, Volume | None]:
    """Image and labels as far as they are wished for, the labels as `found`, if they were."""
    field, grid, affine = way
    how, label_how, fill = options.interpolation, options.label_interpolation, options.fill
    image, labels = wish.image, wish.labels
    if image is not None and labels is not None and found is None:
        return warp_both(
            image,
            labels,
            field,
            grid,
            affine=affine,
            interpolation=how,
            label_interpolation=label_how,
            fill=fill,
        )
    if image is not None:
        image = warp(image, field, grid, affine=affine, interpolation=how, fill=fill)
    if labels is not None and found is None:
        found = warp_labels(labels, field, grid, affine=affine, interpolation=label_how)
    return image, None if labels is None else found


def _field(alignment: Alignment, grid: Grid, wanted: FieldWanted) -> DisplacementField | None:
    if wanted == "none":
        return None
    return compose_affine(
        alignment.affine, alignment.field, half_grid(grid) if wanted == "half" else grid
    )


def _points(alignment: Alignment, wish: Wish) -> WorldPoints | None:
    if wish.fixed_points is not None:
        moved = to_moving(alignment, wish.fixed_points.positions_mm)
        return WorldPoints(moved, wish.fixed_points.ids)
    if wish.moving_points is not None:
        moved = to_fixed(alignment, wish.moving_points.positions_mm)
        return WorldPoints(moved, wish.moving_points.ids)
    return None


def to_moving(alignment: Alignment, points_mm: WorldPositions) -> WorldPositions:
    """Where points of fixed space lie in moving space: A(x + u(x)).

    Beyond its grid the field goes on as at its border, so that a point outside goes with the rest.
    `points.csv` is moved by the delivered file instead, which ITK takes to be zero there.
    """
    field = alignment.field
    last = np.array(field.grid.shape) - 1
    within = field.grid.to_world(np.clip(field.grid.to_voxel(points_mm), 0, last))
    return alignment.affine.move(points_mm + field.at(within))


def to_fixed(alignment: Alignment, points_mm: WorldPositions) -> WorldPositions:
    """Where points of moving space lie in fixed space: the x with A(x + u(x)) = y.

    Fixed-point iteration, then Newton's, as `invert` does for a whole field; to a thousandth of the
    field's voxel. Beyond its grid the field goes on as at its border.
    """
    grid = alignment.field.grid
    targets = grid.to_voxel(alignment.affine.inverse().move(points_mm))
    limits = np.array([POINT_STEPS, POINT_TOLERANCE_VOXELS**2], np.float32)
    shifts = np.empty((len(targets), 3), np.float32)
    inverse.solve_at(in_voxels(alignment.field), limits, targets, shifts)
    return np.asarray(grid.to_world(targets + shifts))
