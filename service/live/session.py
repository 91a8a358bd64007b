"""One session: a reference, its tracker, and the frames that are registered to it."""

import logging
import secrets
import time
from collections import deque
from collections.abc import Generator, Iterator
from functools import partial

from service.errors import BudgetTooShortError, InternalError, WarplineError
from service.live.answers import Answer, AnswerRing, answer_of
from service.live.frames import Frame, FrameDoor
from service.live.metrics import LiveMetrics
from service.live.opening import Opening
from service.live.ports import Listener, MakesTracker, TracksFrames, Witness
from service.live.reference import ReferenceUpload
from service.live.turns import Run
from service.pb import warpline_pb2 as pb
from service.registration.tracked import Calibration

logger = logging.getLogger(__name__)

LEAST_BUDGET_S = 1e-3
MOST_UNTOLD = 64  # frames refused while nobody was connected

Rehearsal = Generator[None, None, Calibration]


class _EndedMeanwhile(Exception):
    """The session was ended while a frame was being registered."""


class Session:
    """Lives on the event loop; only `_registered` and what makes the tracker run elsewhere.

    Receiving the reference, preparing it, ready, ended: one after the other. Connections come and
    go beside that.
    """

    def __init__(
        self,
        owner: str,
        opening: Opening,
        make: MakesTracker,
        metrics: LiveMetrics,
        witness: Witness,
    ) -> None:
        """Begin with nothing received.

        Args:
            owner: Whose it is.
            opening: What was asked for.
            make: Makes the tracker once the reference is here.
            metrics: Told what becomes of frames.
            witness: Told when it is ready and when it has ended.
        """
        self.id = secrets.token_urlsafe(18)
        self.owner = owner
        self.opening = opening
        self.upload = ReferenceUpload(opening)
        self.door = FrameDoor(opening, self._refuse, metrics.dropped)
        self.answers = AnswerRing(opening.kept_answers, keeps_unsent=opening.answers_all)
        self.ready: pb.Ready | None = None
        self.last_answered = 0
        self.answered = 0
        self.is_ended = False
        self.listener: Listener | None = None
        self.alone_since_s = time.monotonic()
        self._make = make
        self._metrics = metrics
        self._witness = witness
        self._tracker: TracksFrames | None = None
        self._rehearsal: Rehearsal | None = None
        self._preparing_s = 0.0
        self._registering: Frame | None = None
        self.untold: deque[tuple[int, WarplineError]] = deque(maxlen=MOST_UNTOLD)

    @property
    def state(self) -> str:
        """Its name, for metrics and the audit log."""
        if self.is_ended:
            return "ended"
        if self.ready is not None:
            return "ready"
        return "preparing" if self.upload.is_complete else "receiving"

    @property
    def has_work(self) -> bool:
        """Whether a turn would do something."""
        if self.is_ended or not self.upload.is_complete:
            return False
        return self.ready is None or (self.door.has_frame and not self.answers.is_full)

    @property
    def is_idle(self) -> bool:
        """Whether all that came was answered and the answers were sent."""
        return not (self.has_work or self._registering or self.answers.has_unsent)

    def connect(self, listener: Listener) -> Listener | None:
        """Go on with this connection; gives the one that it had."""
        before, self.listener = self.listener, listener
        self.door.reconnect()
        while self.untold:
            listener.refused(*self.untold.popleft())
        return before

    def disconnect(self, listener: Listener) -> None:
        """The connection is gone, if it is still the one that counts."""
        if self.listener is listener:
            self.listener = None
            self.alone_since_s = time.monotonic()

    def end(self, error: WarplineError | None = None, reason: str = "closed") -> None:
        """Give all memory back. A frame that is being registered stops at its next step."""
        if self.is_ended:
            return
        self.is_ended = True
        self._tracker = self._rehearsal = None
        self.upload.release()
        self.door.close()
        self.answers = AnswerRing(1, keeps_unsent=False)
        if self.listener is not None and error is not None:
            self.listener.end(error, is_kept=False)
        self._witness.ended(self, reason if error is None else error.slug)

    async def turn(self, run: Run) -> bool:
        """Prepare, calibrate, or answer one frame."""
        if not self.has_work:
            return False
        try:
            if self._tracker is None or self._rehearsal is not None:
                begun = time.perf_counter()
                await self._prepare(run)
                self._preparing_s += time.perf_counter() - begun
            elif (frame := self.door.next()) is not None:
                await self._answer(run, self._tracker, frame)
        except WarplineError as error:
            self.end(error)
        except Exception as error:
            log_defect(error)
            self.end(InternalError())
        if self.listener is not None:
            self.listener.wake()
        return self.has_work

    async def _prepare(self, run: Run) -> None:
        """Make the tracker, or take one step of its rehearsal; the last tells what frames take."""
        if self._rehearsal is None:
            tracker = await run(lambda: self._make(self.opening, self.upload.reference()))
            if not self.is_ended:
                self._tracker, self._rehearsal = tracker, tracker.rehearse()
                self.upload.release()
            return
        measured = await run(partial(_next_of, self._rehearsal))
        if measured is not None and not self.is_ended:
            self._rehearsal = None
            self._settle(measured)

    def _settle(self, measured: Calibration) -> None:
        p50_ms, p95_ms = measured.p50_s * 1000, measured.p95_s * 1000
        budget_s = self.opening.budget_s
        if budget_s is not None and measured.p95_s > budget_s:
            raise BudgetTooShortError(_too_short(self.opening, p50_ms, p95_ms), field="budget_ms")
        warnings = list(self.opening.warnings)
        if budget_s is not None and measured.cold_s > budget_s:
            warnings.append(
                f"A frame with none before it takes {measured.cold_s * 1000:.0f} ms: the first "
                "one, and one after a sudden move, will be cut short by the budget."
            )
        self.ready = pb.Ready(
            expected_p50_ms=p50_ms,
            expected_p95_ms=p95_ms,
            preparation_ms=self._preparing_s * 1000,
            warnings=warnings,
        )
        self._witness.ready(self)

    async def _answer(self, run: Run, tracker: TracksFrames, frame: Frame) -> None:
        self._registering = frame
        begun = time.monotonic()
        try:
            answer = await run(lambda: self._registered(tracker, frame, begun))
            if not (self.is_ended or frame.is_spoiled):
                self._keep(answer, frame)
        except _EndedMeanwhile:
            return
        except WarplineError as error:
            self._refuse(frame.number, error)
        except Exception as error:
            log_defect(error)
            self._refuse(frame.number, InternalError())
        finally:
            self._registering = None
            self.door.release(frame)

    def _registered(self, tracker: TracksFrames, frame: Frame, begun_s: float) -> Answer:
        """On the engine's thread: the answer to one frame, as it will be sent."""
        budget_s = self.opening.budget_s
        if budget_s is not None:
            left_s = frame.arrived_s + budget_s - time.monotonic()
            budget_s = max(LEAST_BUDGET_S, left_s)
        tracked = tracker.step(frame.volume, budget_s=budget_s, watch=self._stop_if_ended)
        encoding = time.perf_counter()
        answer = answer_of(frame, tracked, self.opening.wanted)
        stages = [
            ("transfer", frame.arrived_s - frame.began_s),
            ("wait", begun_s - frame.arrived_s),
            *tracked.stages,
            ("encode", time.perf_counter() - encoding),
        ]
        answer.head.stages.extend(pb.StageTime(name=n, ms=s * 1000) for n, s in stages)
        return answer

    def _stop_if_ended(self, _stage: str, _fraction: float) -> None:
        if self.is_ended:
            raise _EndedMeanwhile

    def _keep(self, answer: Answer, frame: Frame) -> None:
        answer.head.latency_ms = (time.monotonic() - frame.arrived_s) * 1000
        if (lost := self.answers.add(answer)) is not None:
            self.door.drop_number(lost.number)
        answer.head.dropped = self.door.dropped
        self.last_answered = max(self.last_answered, answer.number)
        self.answered += 1
        self._metrics.answered(answer.head)

    def _refuse(self, number: int, error: WarplineError) -> None:
        self._metrics.refused(error.slug)
        if self.listener is None:
            self.untold.append((number, error))
        else:
            self.listener.refused(number, error)


def _next_of(rehearsal: Rehearsal) -> Calibration | None:
    """Take the next step; what was measured, once that was the last one."""
    try:
        next(rehearsal)
    except StopIteration as done:
        measured: Calibration = done.value
        return measured
    return None


def log_defect(error: Exception) -> None:
    """Log its place only: its text may quote what was sent."""
    where = []
    trace = error.__traceback__
    while trace is not None:
        where.append(f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}")
        trace = trace.tb_next
    logger.error("unexpected %s at %s", type(error).__name__, " < ".join(reversed(where[-6:])))


def _too_short(opening: Opening, p50_ms: float, p95_ms: float) -> str:
    ways = ", ".join(_faster(opening))
    return (
        f"With these options half of all frames take {p50_ms:.0f} ms on this machine and 95 of 100 "
        f"take {p95_ms:.0f} ms, measured just now; the budget is "
        f"{(opening.budget_s or 0) * 1000:.0f} ms. Faster would be: {ways}, frames with fewer "
        "voxels, or a longer budget."
    )


def _faster(opening: Opening) -> Iterator[str]:
    """What this session could do without."""
    wanted = opening.wanted
    if opening.options.refine != "none" and not wanted.rigid_only:
        yield "refine `none`"
    if not wanted.rigid_only:
        yield "the rigid part only"
    if wanted.field == "full":
        yield "the field at half resolution or none"
    if wanted.warped_image:
        yield "no warped image"
    if not opening.warm_start:
        yield "a warm start"
