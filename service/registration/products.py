"""What one registration delivers, as arrays: computed once, measured, drawn and written from."""

from dataclasses import dataclass

from service.registration.alignment import Alignment
from service.registration.fields import Affine, DisplacementField
from service.registration.options import RegisterOptions
from service.registration.pair import Pair
from service.registration.points import WorldPoints
from service.registration.resample import (
    compose_affine,
    invert_transform,
    warp,
    warp_both,
)
from service.registration.volume import Volume


@dataclass(frozen=True, eq=False)
class Products:
    """All on the fixed grid, except `inverse_ddf`, which lies on the moving one.

    `ddf` is the whole transform, affine included. `points` are the fixed points in moving space,
    `points_in_fixed` the moving points in fixed space.
    """

    affine: Affine
    ddf: DisplacementField
    inverse_ddf: DisplacementField
    warped: Volume
    warped_labels: Volume | None = None
    points: WorldPoints | None = None
    points_in_fixed: WorldPoints | None = None


def produce(pair: Pair, alignment: Alignment, options: RegisterOptions) -> Products:
    """Carry images, labels and points over.

    The images are pulled through the field that is delivered, not through the coarser one that it
    came from, so another tool that applies the file gets the same voxels.
    """
    ddf = compose_affine(alignment.affine, alignment.field, pair.fixed.grid)
    inverse_ddf = invert_transform(alignment.affine, alignment.field, pair.moving.grid)
    warped, warped_labels = _pulled(pair, alignment, ddf, options)
    return Products(
        affine=alignment.affine,
        ddf=ddf,
        inverse_ddf=inverse_ddf,
        warped=warped,
        warped_labels=warped_labels,
        points=None if pair.fixed_points is None else pair.fixed_points.moved(ddf),
        points_in_fixed=None
        if pair.moving_points is None
        else pair.moving_points.moved(inverse_ddf),
    )


def _pulled(
    pair: Pair, alignment: Alignment, ddf: DisplacementField, options: RegisterOptions
) -> tuple[Volume, Volume | None]:
    """The image through the delivered field, and labels: the network's own where it segments."""
    if pair.moving_labels is None or alignment.labels is not None:
        how, fill = options.interpolation, options.fill
        return warp(pair.moving, ddf, interpolation=how, fill=fill), alignment.labels
    return warp_both(
        pair.moving,
        pair.moving_labels,
        ddf,
        interpolation=options.interpolation,
        label_interpolation=options.label_interpolation,
        fill=options.fill,
    )
