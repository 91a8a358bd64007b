"""One reference, many frames: register each to it, in memory, as fast as the machine can.

initialise -> predict -> refine -> warp -> measure -> judge
"""

import time
from collections.abc import Generator, Sequence

import numpy as np

from service.errors import (
    InvalidPairError,
    InvalidRequestError,
    NoContrastError,
    NonFiniteVoxelsError,
)
from service.registration.answering import Answer, Answering, expected_similarity
from service.registration.carried import Wish, carry
from service.registration.engine import Engine
from service.registration.following import Followed
from service.registration.grid import Grid
from service.registration.options import RegisterOptions
from service.registration.prepared import PreparedFixed, PreparedMoving, PreparedPair
from service.registration.progress import Watch, unwatched
from service.registration.rehearsal import rehearsal_frames
from service.registration.report import Stage
from service.registration.schedule import Costs
from service.registration.tracked import (
    Calibration,
    Reference,
    Role,
    Tracked,
    Wanted,
    nearest_rigid,
)
from service.registration.tracked_measures import judged, motion
from service.registration.volume import Volume, require_same_grid


class Tracker:
    """Registers frames to one reference; not for several threads at once."""

    def __init__(
        self,
        reference: Reference,
        frame_grid: Grid,
        engine: Engine,
        options: RegisterOptions,
        *,
        role: Role,
        wanted: Wanted,
        warm_start: bool,
    ) -> None:
        """Check that all fits together.

        Args:
            reference: What every frame is registered to.
            frame_grid: Where frames lie; one may come with another affine, of the same shape.
            engine: The model; `options.model` is not looked at.
            options: As for `register_files`.
            role: Which image of each pair the reference is.
            wanted: What an answer brings.
            warm_start: Whether the answer to one frame is where the next one starts.

        Raises:
            NoContrastError: If the reference is constant.
            GridMismatchError: If its labels or mask lie on another grid than its image.
            InvalidRequestError: If labels or points are wanted that the reference does not have, or
                labels of a fixed reference, which are warped nowhere.
            NonFiniteVoxelsError: If a voxel of the reference is NaN or infinite.
            InvalidPairError: If the model needs moving labels and there are none.
        """
        self._reference = reference
        self._frame_grid = frame_grid
        self._engine = engine
        self._options = options
        self._role: Role = role
        self._wanted = wanted
        self._warm_start = warm_start
        self._fixed: PreparedFixed | None = None
        self._moving: PreparedMoving | None = None
        self._costs = Costs()
        self._last: Followed | None = None
        _check(reference, role, wanted, engine)

    def step(
        self, frame: Volume, *, budget_s: float | None = None, watch: Watch = unwatched
    ) -> Tracked:
        """Register one frame.

        Args:
            frame: Of the announced shape.
            budget_s: When to be done; by default as long as it takes.
            watch: Told the stage and the fraction; may raise.

        Raises:
            InvalidRequestError: If the frame has another shape.
            NonFiniteVoxelsError: If a voxel is NaN or infinite.
            NoContrastError: If it is constant.
            NoOverlapError: If it does not meet the reference.
        """
        self._require_frame(frame)
        pair = self._pair(frame)
        way = Answering(
            pair,
            self._options,
            self._engine,
            rigid_only=self._wanted.rigid_only,
            costs=self._costs,
            budget_s=budget_s,
            watch=watch,
        )
        answer = way.answer(self._last if self._warm_start else None)
        self._last = Followed(answer.alignment, expected_similarity(answer, self._last))
        return self._told(pair, answer, way)

    def calibrate(self, frames: int = 3) -> Calibration:
        """What a step takes, measured on frames made from the reference; see `rehearse`."""
        steps = self.rehearse(frames)
        while True:
            try:
                next(steps)
            except StopIteration as done:
                measured: Calibration = done.value
                return measured

    def rehearse(self, frames: int = 3) -> Generator[None, None, Calibration]:
        """Calibrate one step at a time, so that others can have the engine between two of them.

        Two steps before that are not counted: the first loads kernels, the second has no frame
        before it, and tells what a step from nothing costs.
        """
        taken: list[float] = []
        made = rehearsal_frames(self._reference, self._frame_grid, self._role, frames + 2)
        for number, frame in enumerate(made):
            if number == 1:
                self._costs, self._last = Costs(), None
            begun = time.perf_counter()
            self.step(frame)
            taken.append(time.perf_counter() - begun)
            yield
        self._last = None
        p50, p95 = np.percentile(taken[2:], [50, 95])
        return Calibration(float(p50), float(p95), taken[1])

    def _told(self, pair: PreparedPair, answer: Answer, way: Answering) -> Tracked:
        """The answer with what is wanted of it, and what it is worth."""
        alignment, grid = answer.alignment, pair.fixed.grid
        with way.stage("warp"):
            carried = carry(alignment, grid, self._wish(pair), self._options)
        with way.stage("measure"):
            verdict = judged(pair, answer)
            moved = motion(alignment, pair.initial, grid)
        return Tracked(
            affine=alignment.affine,
            rigid=nearest_rigid(alignment.affine, grid.centre_mm),
            field=carried.field,
            warped_image=carried.image,
            warped_labels=carried.labels,
            points=carried.points,
            stages=totals(way.clock.stages),
            verdict=verdict,
            motion=moved,
            similarity_before=answer.before,
            similarity_after=answer.after,
            is_cut_short=way.schedule.is_cut_short,
            is_warm=answer.is_warm,
            steps=way.steps,
            warnings=tuple(way.warnings),
        )

    def _require_frame(self, frame: Volume) -> None:
        if frame.grid.shape != self._frame_grid.shape:
            raise InvalidRequestError(
                f"The frame has {frame.grid.shape} voxels; {self._frame_grid.shape} were "
                "announced. Open another session for frames of another shape.",
                field="frame",
            )
        _require_contrast(frame, "frame")

    def _pair(self, frame: Volume) -> PreparedPair:
        """The frame and the reference, which is made ready once."""
        reference, engine, options = self._reference, self._engine, self._options
        if self._role == "fixed":
            if self._fixed is None:
                self._fixed = PreparedFixed(reference.image, reference.mask, engine, options)
            fixed = self._fixed
            moving = PreparedMoving(frame, None, fixed.resolutions, reference.initial)
            return PreparedPair(fixed, moving)
        fixed = PreparedFixed(frame, None, engine, options)
        if self._moving is None or not self._moving.resolutions.are_same(fixed.resolutions):
            self._moving = PreparedMoving(
                reference.image, reference.mask, fixed.resolutions, reference.initial
            )
        return PreparedPair(fixed, self._moving, reference.labels)

    def _wish(self, pair: PreparedPair) -> Wish:
        wanted, points = self._wanted, self._reference.points if self._wanted.points else None
        return Wish(
            field=wanted.field,
            image=pair.moving.image if wanted.warped_image else None,
            labels=pair.moving_labels if wanted.warped_labels else None,
            fixed_points=points if self._role == "fixed" else None,
            moving_points=points if self._role == "moving" else None,
        )


def totals(stages: Sequence[Stage]) -> tuple[tuple[str, float], ...]:
    """Seconds by name, in the order in which names came first."""
    seconds: dict[str, float] = {}
    for stage in stages:
        seconds[stage.name] = seconds.get(stage.name, 0.0) + stage.seconds
    return tuple(seconds.items())


def _check(reference: Reference, role: Role, wanted: Wanted, engine: Engine) -> None:
    _require_contrast(reference.image, "reference")
    for name in ("labels", "mask"):
        if (part := getattr(reference, name)) is not None:
            require_same_grid(part, reference.image, name)
    if wanted.points and reference.points is None:
        raise InvalidRequestError(
            "Points are wanted and the reference has none. Send points, or do not ask for them.",
            field="points",
        )
    if wanted.warped_labels and (role == "fixed" or reference.labels is None):
        raise InvalidRequestError(
            "Warped labels are those of the moving image: they need a reference that is the moving "
            "image and has labels.",
            field="warped_labels",
        )
    if engine.card.output.kind == "warped_label" and (role == "fixed" or reference.labels is None):
        raise InvalidPairError(
            "This model finds given labels of the moving image in the fixed one: it needs a "
            "reference that is the moving image and has labels. Choose another model.",
            field="labels",
        )


def _require_contrast(image: Volume, name: str) -> None:
    low, high = image.data.min(), image.data.max()
    if not (np.isfinite(low) and np.isfinite(high)):  # either is NaN when a voxel is
        raise NonFiniteVoxelsError(
            f"A voxel of the {name} is not a finite number. Replace NaN and infinity first.",
            field=name,
        )
    if low == high:
        raise NoContrastError(
            f"Every voxel of the {name} has the same value: there is nothing to align.", field=name
        )
