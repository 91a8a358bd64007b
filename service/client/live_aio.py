"""A live session for programs on asyncio; the same as `LiveSession`, to be awaited.

The connection is a `LiveSession`'s, in its thread: grpcio's aio loses the server's reason when a
call ends while requests are sent (github.com/grpc/grpc/issues/36066).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from types import TracebackType
from typing import Self, Unpack

import numpy as np

from service.client.live import PATIENCE_S, LiveSession
from service.client.live_answers import LiveAnswer
from service.client.live_frames import Counters
from service.client.live_talk import Readiness
from service.client.live_terms import LiveTerms
from service.errors import WarplineError


class AsyncLiveSession:
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
        **terms: Unpack[LiveTerms],
    ) -> None:
        """Open a session, on the running loop; it gets ready while frames are made.

        Args:
            url: `grpc://HOST:PORT`, or `grpcs://HOST:PORT` with TLS.
            reference: What each frame is registered to, (i, j, k).
            affine: Where it lies: 4x4, voxel index to world mm, RAS+.
            api_key: Where the server asks for one.
            patience_s: How long the server may be away before the session is given up.
            terms: See `LiveTerms`; labels and points that are given come back in each answer.

        Raises:
            InvalidRequestError: If an array has no shape, type or place that can be sent.
        """
        self._loop = asyncio.get_running_loop()
        self._waiting: set[asyncio.Event] = set()
        self._session = LiveSession(
            url,
            reference,
            affine,
            api_key=api_key,
            patience_s=patience_s,
            on_change=self._told,
            **terms,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def counters(self) -> Counters:
        """What became of the frames."""
        return self._session.counters

    @property
    def is_settled(self) -> bool:
        """Whether it is known of each frame what became of it, and each answer was taken."""
        return self._session.is_settled

    @property
    def refusals(self) -> list[tuple[int, WarplineError]]:
        """Numbers of frames that were not taken, and why; the latest."""
        return self._session.refusals

    async def wait_until_ready(self, timeout_s: float | None = None) -> Readiness:
        """Wait until frames are taken; says what one will take on that machine.

        Raises:
            UnavailableError: If that took too long.
            WarplineError: Why the session was refused.
        """
        await self._wait_for(lambda: self._session.is_ready, timeout_s)
        return self._session.wait_until_ready(0)

    async def send(
        self,
        frame: np.ndarray,
        affine: np.ndarray | None = None,
        *,
        acquired_at: datetime | None = None,
    ) -> int:
        """Hand a frame over; gives its number.

        With the policy `latest` this does not wait: a frame that waits here is overtaken. With
        `every` it waits while the server has no room.

        Args:
            frame: As announced; it may be changed afterwards.
            affine: Where it lies, if not where the session said.
            acquired_at: On the scanner's clock; comes back with the answer.

        Raises:
            FrameMismatchError: If it is not as announced.
            WarplineError: Why the session is over.
        """
        await self._wait_for(lambda: self._session.has_room, None)
        return self._session.send(frame, affine, acquired_at=acquired_at)

    async def next_answer(self, timeout_s: float | None = None) -> LiveAnswer | None:
        """The next answer; None if none came in time, or none will come.

        Raises:
            WarplineError: Why the session is over.
        """
        await self._wait_for(lambda: self._session.has_answer, timeout_s)
        return self._session.next_answer(0)

    async def answers(self) -> AsyncIterator[LiveAnswer]:
        """Answers as they come, until the session is closed, or finished and all were answered.

        Raises:
            WarplineError: Why the session is over.
        """
        while (answer := await self.next_answer()) is not None:
            yield answer

    def finish(self) -> None:
        """Say that no more frames come: `answers` ends once all are answered."""
        self._session.finish()

    async def close(self) -> None:
        """End the session, and forget what was not answered."""
        await asyncio.to_thread(self._session.close)

    def _told(self) -> None:
        """Called from the session's threads."""
        with contextlib.suppress(RuntimeError):  # the loop has ended before the session
            self._loop.call_soon_threadsafe(self._change)

    def _change(self) -> None:
        for event in self._waiting:
            event.set()

    async def _wait_for(self, is_so: Callable[[], bool], timeout_s: float | None) -> None:
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            async with asyncio.timeout(timeout_s):
                while not is_so():
                    await event.wait()
                    event.clear()
        except TimeoutError:
            pass
        finally:
            self._waiting.discard(event)
