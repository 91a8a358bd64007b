"""Where the fixed image's points lie in the moving one: initialise, predict, refine."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from service.errors import InvalidPairError, NoOverlapError
from service.registration.engine import Engine
from service.registration.fields import Affine, DisplacementField
from service.registration.grid import Grid
from service.registration.initialise import initialise
from service.registration.metrics import lncc
from service.registration.options import Initialise, RegisterOptions
from service.registration.pair import Pair
from service.registration.progress import RunningStage, StageClock, Watch
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
    the last stage that changed the transform. `labels` are the moving labels on the fixed grid, as
    a network found them that segments and gives no transform.
    """

    affine: Affine
    field: DisplacementField
    answered_by: Answer
    labels: Volume | None = None


def align(
    pair: Pair, options: RegisterOptions, engine: Engine, clock: StageClock, warnings: list[str]
) -> Alignment:
    """Find the transform of a pair: affine, network, refinement, each no worse than the last.

    What the network says is kept only where it makes the pair more alike than the initial affine
    alone does, which catches a model outside its training, unless its card says `accept: always`;
    refinement never returns what is less alike. A network that segments gives labels and leaves the
    transform as it was initialised.

    Raises:
        NoOverlapError: If the two fields of view do not meet once they are initialised.
        InvalidPairError: If the model needs moving labels or single slices and has none.
    """
    require_labels(pair, engine)
    pair = replace(pair, fixed=pair.fixed.as_float32(), moving=pair.moving.as_float32())
    with clock.stage("initialise") as stage:
        how = _chosen(options, engine)
        affine = _initial_affine(pair, how, stage.watch)
        overlap = _require_overlap(pair, affine)
        stage.detail = f"{how}, {overlap:.0%} of the fixed field of view covered"
    with clock.stage("predict") as stage:
        nothing = DisplacementField.zero(pair.fixed.grid.coarsened(COMPARED_VOXELS))
        start = Alignment(affine, nothing, "initialise")
        if engine.card.output.kind == "warped_label":
            return _segmented(pair, start, engine, stage, warnings)
        predicted = _predicted(pair, start, engine, stage.watch)
        gain = _gain(pair, affine, predicted)
        stage.detail = f"{engine.card.name}/{engine.card.version}, local correlation {gain:+.3f}"
    if not gain > 0 and engine.card.accept != "always":
        warnings.append(
            "The network's field did not make the pair more alike than the affine alone and was "
            "dropped: the pair may lie outside what the model's card promises."
        )
        predicted = replace(start, field=DisplacementField.zero(predicted.field.grid))
    if options.refine == "none":
        return predicted
    with clock.stage("refine") as stage:
        refined = _refined(pair, predicted.affine, predicted.field, options, stage.watch)
        stage.detail = str(options.refine)
    if refined is predicted.field:
        return predicted
    return replace(predicted, field=refined, answered_by="refine")


def require_labels(pair: Pair, engine: Engine) -> None:
    """Refuse a pair without moving labels where they are what the model carries over.

    Raises:
        InvalidPairError: If there are none.
    """
    if engine.card.output.kind == "warped_label" and pair.moving_labels is None:
        raise InvalidPairError(
            "This model finds given labels of the moving image in the fixed one, and no moving "
            "labels came. Send `moving_labels`, or choose another model.",
            field="moving_labels",
        )


def _chosen(options: RegisterOptions, engine: Engine) -> Initialise:
    """What the caller chose, or else what the model was trained after."""
    if options.initialise == "model":
        return engine.card.initialise or "affine"
    return options.initialise


def _predicted(pair: Pair, start: Alignment, engine: Engine, watch: Watch) -> Alignment:
    """The start with the network's field, or with its affine after the initial one."""
    if engine.card.output.kind == "affine":
        more = engine.predict_affine(pair.fixed, pair.moving, start.affine, watch)
        return replace(start, affine=start.affine @ more, answered_by="network")
    field = engine.predict(pair.fixed, pair.moving, start.affine, watch)
    return replace(start, field=field, answered_by="network")


def _segmented(
    pair: Pair, start: Alignment, engine: Engine, stage: RunningStage, warnings: list[str]
) -> Alignment:
    """The start with the labels that the network finds in the fixed image."""
    if pair.moving_labels is None:
        return start
    warnings.append(
        "This model finds the moving labels in the fixed image and gives no transform: the warped "
        "labels are its own, and everything else (fields, warped image, points) is the initial "
        "alignment alone, not refined."
    )
    card = engine.card
    stage.detail = f"{card.name}/{card.version}, a segmentation for each label"
    labels = engine.segment(pair.fixed, pair.moving, pair.moving_labels, start.affine, stage.watch)
    return replace(start, labels=labels)


def _initial_affine(pair: Pair, how: Initialise, watch: Watch) -> Affine:
    """From where the headers and the caller's transform put the pair."""
    placed = _placed(pair.moving, pair.initial)
    mask = None if pair.moving_mask is None else _placed(pair.moving_mask, pair.initial)
    found = initialise(
        pair.fixed,
        placed,
        how,
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


def _gain(pair: Pair, initial: Affine, found: Alignment) -> float:
    """Local correlation gained since the initial affine, on a coarse copy; 0 if unmeasurable."""
    grid = pair.fixed.grid.coarsened(COMPARED_VOXELS)
    fixed = downsample(pair.fixed, grid)
    moving = downsample(pair.moving, pair.moving.grid.coarsened(COMPARED_VOXELS))
    mask = (
        None
        if pair.fixed_mask is None
        else resample(pair.fixed_mask, grid, interpolation="nearest")
    )
    without = lncc(fixed, resample(moving, grid, affine=initial), mask)
    gain = lncc(fixed, warp(moving, found.field, grid, affine=found.affine), mask) - without
    return gain if np.isfinite(gain) else 0.0
