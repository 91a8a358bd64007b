"""Where the fixed image's points lie in the moving one: initialise, predict, refine."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from service.errors import InvalidPairError, NoOverlapError
from service.registration.contrast import Samples
from service.registration.descent import LatticeField, LevelPair, MakeLevel
from service.registration.device_level import level_for
from service.registration.engine import Engine
from service.registration.fields import Affine, DisplacementField
from service.registration.initialise import initialise_scouted
from service.registration.levels import Levels
from service.registration.options import Initialise, RegisterOptions
from service.registration.pair import Pair
from service.registration.prepared import (
    COMPARED_VOXELS,
    PreparedFixed,
    PreparedMoving,
    PreparedPair,
)
from service.registration.progress import RunningStage, StageClock, Watch
from service.registration.refine import Climbed, Plan, climb, plan_for
from service.registration.regularity import overlap_fraction
from service.registration.volume import Volume

AnsweredBy = Literal["initialise", "network", "refine"]

# Fields of view that share less than this are no pair.
LEAST_OVERLAP = 1e-3
# Found by a search, which may be led astray; the others do what they say.
SEARCHED = ("rigid", "affine")
# Aligned by an affine, two images of one contrast correlate better than this.
SAME_CONTRAST = 0.92
# Aligned as well as may be, two images that correlate less than this, either way, show so little in
# common (ultrasound and MR) that local correlation follows what is not there.
RELATED = 0.45
# So much of one's variance must be explained by a curve of the other instead, where the fixed image
# is even: .38 at most between ultrasound and MR (one of the eight), .41 and more between images of
# one organ whose values went through a sine (.51 of the 18 hippocampi on the median).
RELATED_BY_CURVE = 0.4
LESS_EXPLAINED = (
    "{} made small windows of the pair more alike, but the images' contrasts differ, and as a "
    "whole either tells {} of the other afterwards: what it found was dropped."
)
UNRELATED = (
    "The pair was not refined: its images correlate so little as a whole that more likeness in "
    "small windows would mean nothing."
)


@dataclass(frozen=True, eq=False)
class Alignment:
    """A transform of the world, fixed to moving: x goes to affine(x + field(x)).

    The field lies on a grid of its own, usually coarser than the fixed image's. `answered_by` is
    the last stage that changed the transform. `labels` are the moving labels on the fixed grid, as
    a network found them that segments and gives no transform.
    """

    affine: Affine
    field: DisplacementField
    answered_by: AnsweredBy
    labels: Volume | None = None

    def climbed_to(self, climbed: Climbed) -> "Alignment":
        """With the refined field, where there is a better one."""
        if climbed.field is self.field:
            return self
        return replace(self, field=climbed.field, answered_by="refine")


def prepare(
    pair: Pair, options: RegisterOptions, engine: Engine, fixed: PreparedFixed | None = None
) -> PreparedPair:
    """A pair as `align` takes it. `fixed` is its fixed image, if it was made ready before.

    Raises:
        InvalidPairError: If the model needs moving labels or single slices and has none.
    """
    require_labels(pair, engine)
    if fixed is None:
        seen = pair.fixed_tempering
        fixed = PreparedFixed(pair.fixed, pair.fixed_mask, engine, options, tempering=seen)
    resolutions, seen = fixed.resolutions, pair.moving_tempering
    moving = PreparedMoving(
        pair.moving, pair.moving_mask, resolutions, pair.initial, tempering=seen
    )
    return PreparedPair(fixed, moving, pair.moving_labels)


def align(
    pair: PreparedPair,
    options: RegisterOptions,
    engine: Engine,
    clock: StageClock,
    warnings: list[str],
    *,
    placed: Callable[[Affine], None] | None = None,
) -> Alignment:
    """Find the transform of a pair: affine, network, refinement, each no worse than the last.

    What the network says is kept only where it makes the pair more alike than the initial affine
    alone does, which catches a model outside its training, unless its card says `accept: always`;
    refinement never returns what is less alike, and is left out where the images have too little in
    common. Where contrasts differ, small windows may come to look alike at a wrong place: the
    network is not kept if a curve of grey values then explains less of the images
    (`is_less_explained`), nor is refinement unless it explains more (`Climbed.explains_more`).
    Where refinement follows, a network is not run on a pair that is as alike as its card's
    `spared_from`. A network that segments gives labels and leaves the transform as it was
    initialised. `placed` is told the affine as soon as it is final, before the refinement.

    Raises:
        NoOverlapError: If the two fields of view do not meet once they are initialised.
    """
    plan = None if options.refine == "none" else plan_for(options.refine)
    with clock.stage("initialise") as stage:
        start = begun(pair, chosen(options, engine), stage)
    with clock.stage("predict") as stage:
        found, plan = predicted_if_needed(pair, start, Remaining(engine, plan), stage, warnings)
    if placed is not None:
        placed(found.affine)
    if plan is None or engine.card.output.kind == "warped_label":
        return found
    with clock.stage("refine") as stage:
        if not is_refinable(pair, found):
            stage.detail = "left out"
            warnings.append(UNRELATED)
            return found
        climbed = refined(pair, found, plan, stage.watch, level_for(engine))
        stage.detail = str(options.refine)
        end = found.climbed_to(climbed)
        if end is not found and not climbed.explains_more:
            stage.detail = f"{options.refine}, dropped"
            warnings.append(LESS_EXPLAINED.format("Refinement", "no more"))
            return found
    return end


def is_refinable(pair: PreparedPair, found: Alignment) -> bool:
    """Whether the images are related enough, as they lie, for local correlation to lead on.

    By a line, rising or falling, or else by a curve: contrasts may differ. Edges say little of that
    before they lie on each other.
    """
    field = None if found.answered_by == "initialise" else found.field
    whole = pair.correlation(found.affine, field)
    if not abs(whole) < RELATED:
        return True
    return _samples(pair, found, weighed=True).correlation_ratio >= RELATED_BY_CURVE


def is_less_explained(pair: PreparedPair, start: Alignment, found: Alignment) -> bool:
    """Whether contrasts differ, and either image tells less of the other as found than before."""
    before = _samples(pair, start)
    if not before.contrasts_differ:
        return False
    return _samples(pair, found).correlation_ratio < before.correlation_ratio


def _samples(pair: PreparedPair, found: Alignment, *, weighed: bool = False) -> Samples:
    """Grey values that lie on each other, of coarse copies."""
    fixed, moving = pair.fixed, pair.moving
    masks = fixed.compared_mask, moving.mask
    lying = LevelPair(fixed.compared, moving.compared, found.affine, *masks)
    field = LatticeField.of(found.field, fixed.compared.grid)
    return Samples.of(lying, field, weighed=weighed)


def begun(pair: PreparedPair, how: Initialise, stage: RunningStage) -> Alignment:
    """The affine that `how` finds, and no deformation.

    Raises:
        NoOverlapError: If the two fields of view do not meet under it.
    """
    affine = _initial_affine(pair, how, stage.watch)
    overlap = _require_overlap(pair, affine)
    stage.detail = f"{how}, {overlap:.0%} of the fixed field of view covered"
    nothing = DisplacementField.zero(pair.fixed.grid.coarsened(COMPARED_VOXELS))
    return Alignment(affine, nothing, "initialise")


@dataclass(frozen=True)
class Remaining:
    """What is still to be done from a start: the network, and refinement by this plan, if any."""

    engine: Engine
    plan: Plan | None


def predicted_if_needed(
    pair: PreparedPair,
    start: Alignment,
    remaining: Remaining,
    stage: RunningStage,
    warnings: list[str],
) -> tuple[Alignment, Plan | None]:
    """What `predicted` gives, or the start and more to refine where the card spares the network."""
    engine, plan = remaining.engine, remaining.plan
    if plan is not None and engine.card.spared_from is not None:
        alike = pair.similarity(start.affine)
        if alike >= engine.card.spared_from and _is_of_one_contrast(pair, start, alike, stage):
            return start, plan.from_further(alike)
    return predicted(pair, start, engine, stage, warnings), plan


def _is_of_one_contrast(
    pair: PreparedPair, start: Alignment, alike: float, stage: RunningStage
) -> bool:
    """Whether values need no mapping: else refinement finds more from the network's start."""
    whole = pair.correlation(start.affine)
    stage.detail = f"not needed: local correlation {alike:.3f}, correlation {whole:.3f} before it"
    return whole >= SAME_CONTRAST


def predicted(
    pair: PreparedPair,
    start: Alignment,
    engine: Engine,
    stage: RunningStage,
    warnings: list[str],
) -> Alignment:
    """What the network makes of a start; the start where that is no better, see `align`."""
    if engine.card.output.kind == "warped_label":
        return _segmented(pair, start, engine, stage, warnings)
    found = _predicted(pair, start, engine, stage.watch)
    gain = _gain(pair, start.affine, found)
    stage.detail = f"{engine.card.name}/{engine.card.version}, local correlation {gain:+.3f}"
    if engine.card.accept == "always":
        return found
    nothing = replace(start, field=DisplacementField.zero(found.field.grid))
    if gain > 0:
        if not is_less_explained(pair, start, found):
            return found
        warnings.append(LESS_EXPLAINED.format("The network", "less"))
        return nothing
    warnings.append(
        "The network's field did not make the pair more alike than the affine alone and was "
        "dropped: the pair may lie outside what the model's card promises."
    )
    return nothing


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


def chosen(options: RegisterOptions, engine: Engine) -> Initialise:
    """What the caller chose, or else what the model was trained after."""
    if options.initialise == "model":
        return engine.card.initialise or "affine"
    return options.initialise


def _predicted(pair: PreparedPair, start: Alignment, engine: Engine, watch: Watch) -> Alignment:
    """The start with the network's field, or with its affine after the initial one."""
    if engine.card.output.kind == "affine":
        more = engine.predict_affine_seen(pair.seen, start.affine, watch)
        return replace(start, affine=start.affine @ more, answered_by="network")
    field = engine.predict_seen(pair.seen, start.affine, watch)
    return replace(start, field=field, answered_by="network")


def _segmented(
    pair: PreparedPair, start: Alignment, engine: Engine, stage: RunningStage, warnings: list[str]
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
    given = pair.moving_labels
    labels = engine.segment_seen(pair.seen, pair.fixed.grid, given, start.affine, stage.watch)
    return replace(start, labels=labels)


def _initial_affine(pair: PreparedPair, how: Initialise, watch: Watch) -> Affine:
    """From where the headers and the caller's transform put the pair; that, if it is more alike.

    A large organ that slides, a liver under the ribs, draws an affine with it, away from all else.
    """
    found = initialise_scouted(pair.fixed.scouted, pair.moving.scouted, how, watch)
    affine = pair.initial @ found
    if how not in SEARCHED:
        return affine
    # Where the headers keep the pair apart, there is nothing to measure: nan is not as alike.
    is_as_alike = pair.similarity(pair.initial) >= pair.similarity(affine)
    return pair.initial if is_as_alike else affine


def _require_overlap(pair: PreparedPair, affine: Affine) -> float:
    """Share of the fixed field of view that the affine maps into the moving one."""
    nothing = DisplacementField.zero(pair.fixed.grid.coarsened(COMPARED_VOXELS))
    overlap = overlap_fraction(nothing, pair.moving.grid, affine=affine)
    if overlap < LEAST_OVERLAP:
        raise NoOverlapError(
            "The two fields of view do not meet: not a thousandth of the fixed one lies in the "
            "other. Choose `initialise`: `affine` (or `centre`) to align them first, or send an "
            "initial transform.",
            field="moving",
        )
    return overlap


def refined(
    pair: PreparedPair, start: Alignment, plan: Plan, watch: Watch, make_level: MakeLevel
) -> Climbed:
    """The field after refinement on the pair's finest levels, as many as the plan has."""
    started = time.perf_counter()
    masks, count = (pair.fixed.mask, pair.moving.mask), len(plan.steps)
    levels = zip(pair.fixed.levels[-count:], pair.moving.levels[-count:], strict=True)
    pairs = [LevelPair(f, m, start.affine, *masks) for f, m in levels]
    spacings = pair.fixed.resolutions.refined_mm[-count:]
    plan = replace(plan, budget_s=plan.budget_s - (time.perf_counter() - started))
    whole = LevelPair(pair.fixed.image, pair.moving.tempered, start.affine, *masks)
    seen = Levels(pairs, spacings, whole)
    return climb(seen, start.field, plan=plan, watch=watch, make_level=make_level)


def _gain(pair: PreparedPair, initial: Affine, found: Alignment) -> float:
    """Local correlation gained since the initial affine, on a coarse copy; 0 if unmeasurable."""
    gain = pair.similarity(found.affine, found.field) - pair.similarity(initial)
    return gain if np.isfinite(gain) else 0.0
