"""A live session for ordinary programs: the connection lives in a thread of its own."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from types import TracebackType
from typing import Self, Unpack

import grpc
import numpy as np

from service.client import rpc_channel
from service.client.live_answers import LiveAnswer
from service.client.live_frames import Counters
from service.client.live_talk import LiveTalk, Readiness
from service.client.live_terms import LiveTerms, Opening
from service.client.rpc_problems import failed
from service.client.rpc_steps import Failed
from service.errors import UnavailableError, WarplineError
from service.pb import warpline_pb2 as pb
from service.rpc.voxel_chunks import serialized

PATIENCE_S = 60.0
METHOD = "/warpline.v1.LiveService/Live"


class LiveSession:
    """Sends frames, and gives an answer to each that was not overtaken.

    A connection that breaks is made again, and goes on where it was; a server that was started
    anew gets the reference again. Heartbeats go by themselves.
    """

    def __init__(
        self,
        url: str,
        reference: np.ndarray,
        affine: np.ndarray,
        *,
        api_key: str | None = None,
        patience_s: float = PATIENCE_S,
        on_change: Callable[[], object] = lambda: None,
        **terms: Unpack[LiveTerms],
    ) -> None:
        """Open a session; it gets ready while frames are made.

        Args:
            url: `grpc://HOST:PORT`, or `grpcs://HOST:PORT` with TLS.
            reference: What each frame is registered to, (i, j, k).
            affine: Where it lies: 4x4, voxel index to world mm, RAS+.
            api_key: Where the server asks for one.
            patience_s: How long the server may be away before the session is given up.
            on_change: Called whenever something has happened, from any thread; must not wait.
            terms: See `LiveTerms`; labels and points that are given come back in each answer.

        Raises:
            InvalidRequestError: If an array has no shape, type or place that can be sent.
        """
        self._talk = LiveTalk(Opening.of(reference, affine, terms), patience_s)
        self._changed = threading.Condition()
        self._on_change = on_change
        self._is_finishing = False
        self._metadata = rpc_channel.metadata(api_key)
        self._channel = rpc_channel.channel(url)
        self._thread = threading.Thread(target=self._live, name="warpline-live", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def counters(self) -> Counters:
        """What became of the frames."""
        return self._talk.frames.counters

    @property
    def is_ready(self) -> bool:
        """Whether frames are taken, or never will be: `wait_until_ready` does not wait."""
        return self._talk.readiness is not None or self.has_ended

    @property
    def has_room(self) -> bool:
        """Whether `send` does not wait."""
        return not self._talk.frames.is_full or self.has_ended

    @property
    def has_answer(self) -> bool:
        """Whether `next_answer` does not wait: there is one, or there will be none."""
        return self._has_answer_or_end() or self.has_ended

    @property
    def has_ended(self) -> bool:
        """Whether the session is closed, or over with an error."""
        return self._talk.is_over or self._talk.is_closing

    @property
    def is_settled(self) -> bool:
        """Whether it is known of each frame what became of it, and each answer was taken."""
        with self._changed:
            return self._talk.frames.is_settled and not self._talk.answers

    @property
    def refusals(self) -> list[tuple[int, WarplineError]]:
        """Numbers of frames that were not taken, and why; the latest."""
        with self._changed:
            return list(self._talk.refusals)

    def wait_until_ready(self, timeout_s: float | None = None) -> Readiness:
        """Wait until frames are taken; says what one will take on that machine.

        Raises:
            UnavailableError: If that took too long.
            WarplineError: Why the session was refused.
        """
        with self._changed:
            self._wait_for(lambda: self._talk.readiness is not None, timeout_s)
            if self._talk.readiness is None:
                raise self._talk.error or UnavailableError("The session did not become ready.")
            return self._talk.readiness

    def send(
        self,
        frame: np.ndarray,
        affine: np.ndarray | None = None,
        *,
        acquired_at: datetime | None = None,
    ) -> int:
        """Hand a frame over; gives its number.

        With the policy `latest` this returns at once: a frame that waits here is overtaken. With
        `every` it waits while the server has no room.

        Args:
            frame: As announced; it may be changed afterwards.
            affine: Where it lies, if not where the session said.
            acquired_at: On the scanner's clock; comes back with the answer.

        Raises:
            FrameMismatchError: If it is not as announced.
            WarplineError: Why the session is over.
        """
        with self._changed:
            self._wait_for(lambda: not self._talk.frames.is_full, None)
            self._require_alive()
            number = self._talk.offer(frame, affine, acquired_at, time.monotonic())
            self._tell()
            return number

    def next_answer(self, timeout_s: float | None = None) -> LiveAnswer | None:
        """The next answer; None if none came in time, or none will come.

        Raises:
            WarplineError: Why the session is over.
        """
        with self._changed:
            self._wait_for(self._has_answer_or_end, timeout_s)
            answer = self._talk.take_answer()
            if answer is None:
                self._require_alive(also_closed=False)
            self._tell()
            return answer

    def answers(self) -> Iterator[LiveAnswer]:
        """Answers as they come, until the session is closed, or finished and all were answered.

        Raises:
            WarplineError: Why the session is over.
        """
        while (answer := self.next_answer()) is not None:
            yield answer

    def finish(self) -> None:
        """Say that no more frames come: `answers` ends once all are answered."""
        with self._changed:
            self._is_finishing = True
            self._tell()

    def close(self) -> None:
        """End the session, and forget what was not answered."""
        with self._changed:
            self._talk.is_closing = True
            self._tell()
        self._thread.join(5)
        self._channel.close()
        self._thread.join(5)

    def _has_answer_or_end(self) -> bool:
        return bool(self._talk.answers) or (self._is_finishing and self._talk.frames.is_settled)

    def _wait_for(self, is_so: Callable[[], bool], timeout_s: float | None) -> None:
        self._changed.wait_for(lambda: is_so() or self.has_ended, timeout_s)

    def _tell(self) -> None:
        """Something is another way now: who waits looks again."""
        self._changed.notify_all()
        self._on_change()

    def _require_alive(self, *, also_closed: bool = True) -> None:
        if self._talk.error is not None:
            raise self._talk.error
        if also_closed and self._talk.is_closing:
            raise UnavailableError("The session is closed.")

    # The thread of the connection.

    def _live(self) -> None:
        pause_s: float | None = 0.0
        while pause_s is not None:
            with self._changed:
                self._changed.wait_for(lambda: self._talk.is_closing, pause_s)
            failure = self._connection()
            with self._changed:
                pause_s = self._talk.broke(failure, time.monotonic())
                self._tell()

    def _connection(self) -> Failed | None:
        """One connection, until it ends."""
        requests = _Requests(self._talk, self._changed, self._tell)
        live = self._channel.stream_stream(
            METHOD, request_serializer=serialized, response_deserializer=pb.LiveResponse.FromString
        )
        call = live(requests, metadata=self._metadata)
        try:
            for response in call:
                with self._changed:
                    self._talk.take(response, time.monotonic())
                    self._tell()
        except grpc.RpcError as error:
            return failed(error)
        except WarplineError as error:
            return Failed(error)
        finally:
            requests.end()
            call.cancel()
        return None


class _Requests:
    """What is sent, for the thread of grpcio that sends it."""

    def __init__(
        self, talk: LiveTalk, changed: threading.Condition, tell: Callable[[], object]
    ) -> None:
        self._talk, self._changed, self._tell, self._is_over = talk, changed, tell, False
        talk.connect(time.monotonic())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> pb.LiveRequest | bytes:
        with self._changed:
            while not self._is_over and not self._talk.is_over:
                request = self._talk.next_request(time.monotonic())
                if request is not None:
                    self._tell()
                    return request
                self._changed.wait(self._talk.wait_s(time.monotonic()))
            raise StopIteration

    def end(self) -> None:
        with self._changed:
            self._is_over = True
            self._tell()
