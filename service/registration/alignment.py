"""Where the fixed image's points lie in the moving one: initialise, predict, refine."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from service.errors import NoOverlapError
from service.registration.engine import Engine
from service.registration.fields import Affine, DisplacementField
from service.registration.grid import Grid
from service.registration.initialise import initialise
from service.registration.metrics import lncc
from service.registration.options import RegisterOptions
from service.registration.pair import Pair
from service.registration.progress import StageClock, Watch
from service.registration.refine import refine
from service.registration.regularity import overlap_fraction
from service.registration.resample import downsample, resample, warp
from service.registration.volume import Volume

Answer = Literal["initialise", "network", "refine"]

# Fields of view that share less than this are no pair.
LEAST_OVERLAP = 1e-3
# The network's field is compared with none on about this many voxels.
COMPARED_VOXELS = 60**3


@dataclass(frozen=True, eq=False)
class Alignment:
    """A transform of the world, fixed to moving: x goes to affine(x + field(x)).

    The field lies on a grid of its own, usually coarser than the fixed image's. `answered_by` is
    the last stage that changed the transform.
    """

    affine: Affine
    field: DisplacementField
    answered_by: Answer


def align(
    pair: Pair, options: RegisterOptions, engine: Engine, clock: StageClock, warnings: list[str]
) -> Alignment:
    """Find the transform of a pair: affine, network, refinement, each no worse than the last.

    The network's field is kept only where it makes the pair more alike than the affine alone does,
    which catches a model outside its training; refinement never returns what is less alike.

    Raises:
        NoOverlapError: If the two fields of view do not meet once they are initialised.
    """
    with clock.stage("initialise") as stage:
        affine = _initial_affine(pair, options, stage.watch)
        overlap = _require_overlap(pair, affine)
        stage.detail = f"{options.initialise}, {overlap:.0%} of the fixed field of view covered"
    with clock.stage("predict") as stage:
        predicted = engine.predict(pair.fixed, pair.moving, affine, stage.watch)
        gain = _gain(pair, affine, predicted)
        stage.detail = f"{engine.card.name}/{engine.card.version}, local correlation {gain:+.3f}"
    keep = gain > 0
    if not keep:
        warnings.append(
            "The network's field did not make the pair more alike than the affine alone and was "
            "dropped: the pair may lie outside what the model's card promises."
        )
    field = predicted if keep else DisplacementField.zero(predicted.grid)
    answered: Answer = "network" if keep else "initialise"
    if options.refine == "none":
        return Alignment(affine, field, answered)
    with clock.stage("refine") as stage:
        refined = _refined(pair, affine, field, options, stage.watch)
        stage.detail = str(options.refine)
    return Alignment(affine, refined, answered if refined is field else "refine")


def _initial_affine(pair: Pair, options: RegisterOptions, watch: Watch) -> Affine:
    """From where the headers and the caller's transform put the pair."""
    placed = _placed(pair.moving, pair.initial)
    mask = None if pair.moving_mask is None else _placed(pair.moving_mask, pair.initial)
    found = initialise(
        pair.fixed,
        placed,
        options.initialise,
        fixed_mask=pair.fixed_mask,
        moving_mask=mask,
        watch=watch,
    )
    return pair.initial @ found


def _placed(moving: Volume, initial: Affine) -> Volume:
    """The moving volume where the initial transform says that it lies in fixed space."""
    return Volume(
        moving.data, Grid(moving.grid.shape, initial.inverse().matrix @ moving.grid.affine)
    )


def _require_overlap(pair: Pair, affine: Affine) -> float:
    """Share of the fixed field of view that the affine maps into the moving one."""
    nothing = DisplacementField.zero(pair.fixed.grid.coarsened(COMPARED_VOXELS))
    overlap = overlap_fraction(nothing, pair.moving.grid, affine=affine)
    if overlap < LEAST_OVERLAP:
        raise NoOverlapError(
            "The two fields of view do not meet. Choose `initialise`: `affine` (or `centre`) to "
            "align them first, or send an initial transform.",
            field="moving",
        )
    return overlap


def _refined(
    pair: Pair, affine: Affine, field: DisplacementField, options: RegisterOptions, watch: Watch
) -> DisplacementField:
    return refine(
        pair.fixed,
        pair.moving,
        affine,
        field,
        effort=options.refine,
        fixed_mask=pair.fixed_mask,
        moving_mask=pair.moving_mask,
        watch=watch,
    )


def _gain(pair: Pair, affine: Affine, field: DisplacementField) -> float:
    """Local correlation that a field adds to the affine, on a coarse copy; 0 if unmeasurable."""
    grid = pair.fixed.grid.coarsened(COMPARED_VOXELS)
    fixed = downsample(pair.fixed, grid)
    moving = downsample(pair.moving, pair.moving.grid.coarsened(COMPARED_VOXELS))
    mask = (
        None
        if pair.fixed_mask is None
        else resample(pair.fixed_mask, grid, interpolation="nearest")
    )
    without = lncc(fixed, resample(moving, grid, affine=affine), mask)
    gain = lncc(fixed, warp(moving, field, grid, affine=affine), mask) - without
    return gain if np.isfinite(gain) else 0.0
