"""A live session without its I/O: what is sent next, and what it means when something comes.

It outlives connections. A driver connects, asks for requests while it may, hands over what comes,
and asks what to do when a connection has ended.
"""

from collections import deque
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from service.client.live_answers import Arriving, LiveAnswer
from service.client.live_frames import FrameQueue, outgoing
from service.client.live_terms import Opening
from service.client.live_voxels import VoxelSending
from service.client.problems import error_of
from service.client.rpc_steps import Failed
from service.client.rpc_views import problem_of
from service.errors import (
    ChecksumMismatchError,
    ChunkOrderError,
    SessionIdleError,
    SessionNotFoundError,
    UnavailableError,
    WarplineError,
)
from service.pb import warpline_pb2 as pb

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 1.0
REFUSALS_KEPT = 100
BEFORE_OPENED_S = 5.0
# Connections that end with a complaint, one after the other without an answer between.
MOST_COMPLAINTS = 5
# Damage on the way, or a silence: another connection goes on.
MENDED_BY_ANOTHER = (ChecksumMismatchError, ChunkOrderError, SessionIdleError)
CUT_SHORT = Failed(UnavailableError("The server ended the session."), is_lost=True)


@dataclass(frozen=True)
class Readiness:
    """What the server measured before the first frame."""

    expected_p50_ms: float
    expected_p95_ms: float
    preparation_ms: float
    warnings: tuple[str, ...]


class LiveTalk:
    """Drivers must not call two methods at once."""

    def __init__(self, opening: Opening, patience_s: float) -> None:
        """Begin without a connection.

        Args:
            opening: What is asked for.
            patience_s: How long a server may be away before the session is given up.
        """
        self._opening = opening
        self._patience_s = patience_s
        self.frames = FrameQueue(is_every=opening.is_every)
        self.session_id = ""
        self.readiness: Readiness | None = None
        self.refusals: deque[tuple[int, WarplineError]] = deque(maxlen=REFUSALS_KEPT)
        self.answers: deque[LiveAnswer] = deque()
        self.is_closing = False
        self.error: WarplineError | None = None
        """Why the session is over, if it is for another reason than that it was closed."""
        self._is_ready = self._has_opened = self._has_been_open = False
        self._has_asked = self._has_said_close = False
        self._parts: deque[VoxelSending] = deque()
        self._sending: VoxelSending | None = None
        self._arriving: Arriving | None = None
        self._last_word: Failed | None = None
        self._owed_credit = 0
        self._beat_every_s, self._beaten_s, self._nonce = BEFORE_OPENED_S, 0.0, 0
        self._away_since_s: float | None = None
        self._pause_s = FIRST_PAUSE_S
        self._complaints = 0

    # What the user does.

    def offer(
        self,
        voxels: np.ndarray,
        affine: np.ndarray | None,
        acquired_at: datetime | None,
        now_s: float,
    ) -> int:
        """Take a frame; gives its number.

        Raises:
            FrameMismatchError: If it is not as announced.
        """
        announced = (self._opening.frame_shape, self._opening.frame_dtype)
        room = self.frames.take_room()
        return self.frames.add(outgoing(voxels, affine, acquired_at, now_s, announced, room=room))

    def take_answer(self) -> LiveAnswer | None:
        """The oldest answer that was not taken; makes room for another."""
        if not self.answers:
            return None
        self._owed_credit += 1
        return self.answers.popleft()

    # What the driver asks.

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self.error is not None or self._has_said_close

    def connect(self, now_s: float) -> None:
        """A connection begins."""
        self._is_ready = self._has_opened = self._has_asked = False
        self._arriving = self._sending = self._last_word = None
        self._parts.clear()
        self._owed_credit = 0
        self._beaten_s = now_s

    def next_request(self, now_s: float) -> pb.LiveRequest | bytes | None:
        """What may be sent now, voxels as bytes; None when something must happen first."""
        if not self._has_asked:
            self._has_asked = True
            return pb.LiveRequest(open=self._open())
        if self.is_closing:
            self._has_said_close = True
            return pb.LiveRequest(close=pb.Close())
        if now_s - self._beaten_s >= self._beat_every_s:
            self._beaten_s, self._nonce = now_s, self._nonce + 1
            return pb.LiveRequest(heartbeat=pb.Heartbeat(nonce=self._nonce))
        if not self._has_opened:
            return None
        if self._owed_credit:
            count, self._owed_credit = self._owed_credit, 0
            return pb.LiveRequest(credit=pb.Credit(count=count))
        return self._next_voxels()

    def wait_s(self, now_s: float) -> float:
        """When to ask again even if nothing happens: a heartbeat is due."""
        return max(0.0, self._beaten_s + self._beat_every_s - now_s)

    def take(self, response: pb.LiveResponse, now_s: float) -> None:
        """Read a response.

        Raises:
            ChecksumMismatchError, ChunkOrderError: If it is damaged.
        """
        part = response.WhichOneof("part")
        if part == "opened":
            self._opened(response.opened)
        elif part == "ready":
            self._ready(response.ready)
        elif part == "answer":
            self._arriving = Arriving(response.answer)
            self._finish_answer(now_s)
        elif part == "chunk" and self._arriving is not None:
            self._arriving.take(response.chunk)
            self._finish_answer(now_s)
        elif part == "dropped":
            self.frames.dropped(list(response.dropped.numbers))
        elif part == "refused":
            self._refused(response.refused)
        elif part == "credit":
            self.frames.credit += response.credit.count
        elif part == "closed":
            self._last_word = Failed(error_of(problem_of(response.closed.problem)))

    def broke(self, failure: Failed | None, now_s: float) -> float | None:
        """A connection has ended: seconds to wait before the next one; None if it is over."""
        if self._has_said_close or self.is_closing:
            self._has_said_close = True
            return None
        failure = self._last_word or failure or CUT_SHORT
        if isinstance(failure.error, SessionNotFoundError) and self.session_id:
            self._reopen()
            return 0.0
        is_damage = isinstance(failure.error, MENDED_BY_ANOTHER)
        self._complaints += is_damage
        is_away = failure.is_lost or isinstance(failure.error, UnavailableError)
        if not is_away and not (is_damage and self._complaints <= MOST_COMPLAINTS):
            self.error = failure.error
            return None
        if self._away_since_s is None:
            self._away_since_s, self._pause_s = now_s, FIRST_PAUSE_S
        if now_s - self._away_since_s > self._patience_s:
            self.error = failure.error
            return None
        pause_s, self._pause_s = self._pause_s, min(LONGEST_PAUSE_S, self._pause_s * 2)
        return max(pause_s, failure.error.retry_after_s or 0.0)

    # How it goes.

    def _open(self) -> pb.Open:
        if self.session_id:
            return pb.Open(session_id=self.session_id, last_answer=self.frames.last_answer)
        return self._opening.message

    def _reopen(self) -> None:
        """The server has lost the session: open another, with the reference."""
        self.session_id = ""
        self.frames.counters.reopened += 1

    def _opened(self, opened: pb.Opened) -> None:
        if self._has_been_open:
            self.frames.counters.reconnects += 1
        self._has_opened = self._has_been_open = True
        self._away_since_s = None
        self.session_id = opened.session_id
        if opened.HasField("idle_timeout"):
            self._beat_every_s = opened.idle_timeout.ToMilliseconds() / 4000
        self.frames.go_on(opened.credit, opened.last_frame)
        skip = opened.received_bytes
        for target, voxels in self._opening.parts:
            here = min(skip, voxels.nbytes)
            self._parts.append(VoxelSending(target, 0, voxels, here))
            skip -= here

    def _ready(self, ready: pb.Ready) -> None:
        self._is_ready = True
        self.readiness = Readiness(
            ready.expected_p50_ms,
            ready.expected_p95_ms,
            ready.preparation_ms,
            tuple(ready.warnings),
        )

    def _next_voxels(self) -> pb.LiveRequest | bytes | None:
        while self._parts:
            if (request := self._parts[0].next()) is not None:
                return request
            self._parts.popleft()
        if self._sending is not None and (request := self._sending.next()) is not None:
            return request
        self._sending = None
        if not self._is_ready or (frame := self.frames.next()) is None:
            return None
        self._sending = frame.sending()
        return pb.LiveRequest(frame=frame.start)

    def _finish_answer(self, now_s: float) -> None:
        arriving = self._arriving
        if arriving is None or not arriving.is_whole:
            return
        self._arriving, self._complaints = None, 0
        taken_ms = self.frames.answered(arriving.head.number, now_s)
        if taken_ms is None:  # sent again, as the server could not know that it had arrived
            self._owed_credit += 1
        else:
            self.answers.append(arriving.answer(taken_ms))

    def _refused(self, refused: pb.FrameRefused) -> None:
        error = error_of(problem_of(refused.problem))
        if self.frames.refused(refused.number, error.slug):
            self.refusals.append((refused.number, error))
