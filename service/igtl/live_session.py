"""Sessions of the live service, as the bridge uses them.

The service is sent axes i, j, k, as it has them of files: the order of the axes changes what a
registration finds by hundredths of a voxel, and an answer is to equal that of `warpline register`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, cast

import numpy as np

from service.client.live import LiveSession
from service.client.live_answers import LiveAnswer
from service.client.live_answers import Placed as ClientPlaced
from service.client.live_terms import LiveTerms
from service.igtl.frames import Frame, taken
from service.igtl.session import Answer, Placed, Session, Unanswered, Verdict
from service.igtl.wire import nanoseconds
from service.registration.grid import Matrix4
from service.registration.volume import Volume

# After that the peers are told that the service is away, and the bridge goes on trying.
PATIENCE_S = 5.0
# Loading a model and measuring what a frame takes.
READY_S = 180.0
POLL_S = 0.2
MICROSECONDS = 10**6


@dataclass(frozen=True, eq=False)
class Reference:
    """The image that every frame is registered to. Axes i, j, k, unlike frames."""

    voxels: np.ndarray
    affine: Matrix4

    @classmethod
    def of(cls, volume: Volume) -> "Reference":
        """A volume's voxels in a type that a session takes."""
        return cls(taken(volume.data), volume.grid.affine)


def turned(affine: Matrix4) -> Matrix4:
    """The matrix of axes k, j, i as that of axes i, j, k, and the other way round."""
    return affine[:, [2, 1, 0, 3]]


@dataclass(frozen=True)
class LiveOpener:
    """Opens sessions of a live service, all with the same reference."""

    url: str
    reference: Reference
    terms: LiveTerms
    api_key: str | None = None
    say: Callable[[str], None] = lambda _sentence: None

    def __call__(self, first: Frame) -> Session:
        """Open a session for frames like this one, and wait until it takes them.

        Raises:
            WarplineError: Why the session was refused.
        """
        k, j, i = first.voxels.shape
        terms: dict[str, Any] = {
            **self.terms,
            "frame_shape": (i, j, k),
            "frame_dtype": first.voxels.dtype,
            "frame_affine": turned(first.affine),
        }
        session = LiveSession(
            self.url,
            self.reference.voxels,
            self.reference.affine,
            api_key=self.api_key,
            patience_s=PATIENCE_S,
            **cast(LiveTerms, terms),
        )
        try:
            ready = session.wait_until_ready(READY_S)
        except BaseException:
            session.close()
            raise
        self.say(
            f"The session is ready: {i} x {j} x {k} voxels, about {ready.expected_p50_ms:.0f} ms a "
            f"frame, 95 of 100 within {ready.expected_p95_ms:.0f} ms."
        )
        for warning in ready.warnings:
            self.say(warning)
        return _Opened(session)


class _Opened:
    """A client's session in the words of the bridge."""

    def __init__(self, session: LiveSession) -> None:
        self._session = session
        self._is_closed = False
        self._lost_before = 0
        self._last_refusal = 0

    def send(self, number: int, frame: Frame) -> None:
        """The session counts its frames from 1, as the bridge does."""
        given = self._session.send(
            frame.voxels.T, turned(frame.affine), acquired_at=_time_of(frame.stamp)
        )
        if given != number:
            raise RuntimeError("The session and the bridge count frames differently.")

    def events(self) -> Iterator[Answer | Unanswered]:
        while not self._is_closed:
            answer = self._session.next_answer(POLL_S)
            yield from self._unanswered()
            if answer is not None:
                yield answer_of(answer)

    def close(self) -> None:
        self._is_closed = True
        self._session.close()

    def _unanswered(self) -> Iterator[Unanswered]:
        counters = self._session.counters
        lost = counters.overtaken + counters.dropped + counters.lost
        if lost > self._lost_before:
            yield Unanswered(lost - self._lost_before)
            self._lost_before = lost
        for number, error in self._session.refusals:
            if number > self._last_refusal:
                self._last_refusal = number
                yield Unanswered(1, error.slug, error.detail)


def _time_of(stamp: int) -> datetime | None:
    since_1970 = nanoseconds(stamp)
    if since_1970 is None:
        return None
    seconds, rest = divmod(since_1970, 10**9)
    # Frames keep their own timestamp to the bit; this one is for the service.
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest * MICROSECONDS // 10**9)


def answer_of(answer: LiveAnswer) -> Answer:
    """An answer of the client in the words of the bridge."""
    made = Answer(
        number=answer.number,
        verdict=cast(Verdict, answer.verdict),
        reasons=answer.reasons,
        latency_ms=answer.round_trip_ms,
        motion_median_mm=answer.median_mm,
        motion_max_mm=answer.max_mm,
        affine=answer.affine,
        rigid=answer.rigid,
        points_mm=answer.points if len(answer.points) else None,
    )
    return replace(
        made,
        field=_placed(answer.field),
        warped_image=_placed(answer.warped_image),
        warped_labels=_placed(answer.warped_labels),
    )


def _placed(array: ClientPlaced | None) -> Placed | None:
    if array is None:
        return None
    axes = (2, 1, 0, 3)[: array.data.ndim]
    return Placed(array.data.transpose(axes), turned(array.affine))
