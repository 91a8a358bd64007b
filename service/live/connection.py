"""One connection of a session: what comes is taken, what is there is sent, both at once."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from service.errors import (
    ChecksumMismatchError,
    ChunkOrderError,
    ChunkSizeError,
    CreditExceededError,
    InternalError,
    LiveProtocolError,
    LiveStoppingError,
    SessionIdleError,
    SessionTakenOverError,
    UnauthenticatedError,
    WarplineError,
)
from service.live.desk import Desk
from service.live.opening import read_open
from service.live.session import Session, log_defect
from service.live.wire import Outgoing
from service.pb import warpline_pb2 as pb
from service.rpc.status import problem_message

# Answers that a client takes before it grants credit.
FIRST_CREDIT = 8
MOST_CREDIT = 1 << 20
# Heartbeats and refusals that wait for a client that sends and does not read.
MOST_PENDING = 256
# Looks at the client in the time for which it may be silent. Silence is counted in them, and not by
# a clock: a process that was held up hears what has come meanwhile before it looks twice.
LOOKS = 8
# The last word may take this long to a client that does not read.
GOODBYE_S = 2.0
# After these the session is kept: the client can do better on another connection.
KEPT_AFTER = (
    ChecksumMismatchError,
    ChunkOrderError,
    ChunkSizeError,
    SessionIdleError,
    SessionTakenOverError,
    UnauthenticatedError,
)


class Connection:
    """Serves one call. `service.live.ports.Listener` of the session that it found or made."""

    def __init__(
        self, context: Any, desk: Desk, owner: str, still_known: Callable[[], None]
    ) -> None:
        """Begin without a session.

        Args:
            context: Where answers are written.
            desk: What it works with.
            owner: Whose call it is.
            still_known: Raises when the caller's key is valid no more.
        """
        self._context = context
        self._desk = desk
        self._owner = owner
        self._still_known = still_known
        self._session: Session | None = None
        self._pending: deque[pb.LiveResponse] = deque()
        self._sending: Iterator[Outgoing] = iter(())
        self._credit = FIRST_CREDIT
        self._was_ready = False
        self._awake = asyncio.Event()
        self._silent_looks = 0
        self._is_over = False  # nothing more comes
        self._fault: tuple[WarplineError, bool] | None = None
        self._speaking: asyncio.Task[None] | None = None

    async def serve(self, requests: AsyncIterator[pb.LiveRequest]) -> None:
        """Until the client or the session ends it.

        Raises:
            WarplineError: Why it ended, when it was not the client's wish.
        """
        others = [
            asyncio.create_task(self._guarded(part))
            for part in (self._listen(requests), self._watch())
        ]
        self._speaking = asyncio.create_task(self._speak())
        try:
            await asyncio.wait([self._speaking])
        finally:
            for task in (*others, self._speaking):
                task.cancel()
            if self._session is not None:
                self._session.disconnect(self)
        if self._fault is not None:
            raise self._fault[0]
        self._speaking.result()

    # What a session tells its connection.

    def wake(self) -> None:
        """There may be something to send."""
        self._awake.set()

    def refused(self, number: int, error: WarplineError) -> None:
        """Tell that a frame was not taken or not registered."""
        problem = problem_message(error.problem(), error.retry_after_s)
        self._queue(pb.LiveResponse(refused=pb.FrameRefused(number=number, problem=problem)))

    def end(self, error: WarplineError, *, is_kept: bool) -> None:
        """Say why, and stop."""
        if self._fault is None:
            self._fault = (error, is_kept)
            self._awake.set()
            if self._speaking is not None:
                asyncio.get_running_loop().call_later(GOODBYE_S, self._speaking.cancel)

    # What comes.

    async def _guarded(self, part: Awaitable[None]) -> None:
        try:
            await part
        except WarplineError as error:
            self._fail(error)
        except Exception as error:
            log_defect(error)
            self._fail(InternalError())

    async def _listen(self, requests: AsyncIterator[pb.LiveRequest]) -> None:
        async for message in requests:
            if self._fault is not None:
                return
            self._silent_looks = 0
            await self._take(message)
            if self._is_over:
                return
        self._is_over = True
        self._awake.set()

    def _fail(self, error: WarplineError) -> None:
        is_kept = isinstance(error, KEPT_AFTER) and self._session is not None
        self.end(error, is_kept=is_kept)
        if self._session is not None and not is_kept:
            self._session.end(error)

    async def _take(self, message: pb.LiveRequest) -> None:
        part = message.WhichOneof("part")
        if part == "heartbeat":
            self._queue(pb.LiveResponse(heartbeat=message.heartbeat))
        elif part == "open":
            await self._open(message.open)
        elif part == "chunk":
            self._take_chunk(self._opened(), message.chunk)
        elif part == "frame":
            self._begin_frame(self._opened(), message.frame)
        elif part == "credit":
            self._credit = min(MOST_CREDIT, self._credit + message.credit.count)
            self._awake.set()
        elif part == "close":
            self._opened().end()
            self._is_over = True
            self._awake.set()

    def _opened(self) -> Session:
        if self._session is None:
            raise LiveProtocolError("Send Open first.", field="open")
        return self._session

    async def _open(self, message: pb.Open) -> None:
        if self._session is not None:
            raise LiveProtocolError("The session is open already.", field="open")
        if self._desk.is_stopping.is_set():
            raise LiveStoppingError(retry_after_s=1.0)
        try:
            session = self._resumed(message) if message.session_id else await self._made(message)
        except WarplineError as error:
            self._desk.sessions.refused(self._owner, error.slug)
            raise
        self._session = session
        before = session.connect(self)
        if before is not None:
            before.end(SessionTakenOverError(), is_kept=True)
        opened = pb.Opened(
            session_id=session.id,
            is_resumed=bool(message.session_id),
            received_bytes=session.upload.received,
            credit=session.door.credit,
            last_frame=session.last_answered,
        )
        opened.time_to_live.FromMilliseconds(round(self._desk.ttl_s * 1000))
        opened.idle_timeout.FromMilliseconds(round(self._desk.idle_timeout_s * 1000))
        self._pending.appendleft(pb.LiveResponse(opened=opened))
        self._awake.set()

    def _resumed(self, message: pb.Open) -> Session:
        session = self._desk.sessions.find(message.session_id, self._owner)
        session.answers.rewind(message.last_answer)
        return session

    async def _made(self, message: pb.Open) -> Session:
        opening = read_open(message, self._desk.limits)
        self._desk.sessions.require_room(self._owner, opening)
        await asyncio.to_thread(self._desk.load_model, opening)
        return self._desk.sessions.open(self._owner, opening)

    def _take_chunk(self, session: Session, chunk: pb.VoxelChunk) -> None:
        if not session.upload.is_complete:
            if session.upload.take(chunk):
                self._desk.turns.ask(session)
        elif chunk.target != pb.VOXEL_TARGET_FRAME:
            raise LiveProtocolError("The reference is here already; send frames.", field="target")
        elif session.door.take(chunk, time.monotonic()):
            self._desk.turns.ask(session)
            self._awake.set()

    def _begin_frame(self, session: Session, start: pb.FrameStart) -> None:
        if not session.upload.is_complete:
            raise LiveProtocolError(
                "The reference's voxels are not all here: frames come after them.", field="frame"
            )
        session.door.begin(start, time.monotonic())

    async def _watch(self) -> None:
        """Look whether the client is still there and still allowed to be."""
        limit_s = self._desk.idle_timeout_s
        while self._fault is None:
            await asyncio.sleep(limit_s / LOOKS)
            self._still_known()
            self._silent_looks += 1
            # Who has said that nothing more comes may wait for what is being done.
            waits = self._is_over and self._session is not None and self._session.has_work
            if not waits and self._is_silent():
                raise SessionIdleError(
                    f"Nothing was heard for {limit_s:g} s. Send heartbeats; the session is kept "
                    "for a while and can be gone on with."
                )

    def _is_silent(self) -> bool:
        return self._silent_looks > LOOKS

    # What is sent.

    async def _speak(self) -> None:
        while self._fault is None:
            self._awake.clear()
            message = self._next()
            if message is not None:
                await self._context.write(message)
            elif self._is_done():
                return
            else:
                await self._awake.wait()
        # An answer that has begun is sent whole.
        for message in self._sending:
            await self._context.write(message)
        await self._context.write(_closed(*self._fault))

    def _is_done(self) -> bool:
        session = self._session
        return self._is_over and (session is None or session.is_ended or session.is_idle)

    def _queue(self, message: pb.LiveResponse) -> None:
        if len(self._pending) >= MOST_PENDING:
            self._fail(
                CreditExceededError("More is sent than is read: too many messages wait for you.")
            )
            return
        self._pending.append(message)
        self._awake.set()

    def _next(self) -> Outgoing | None:
        """What is sent now: what is short goes before the next chunk of an answer."""
        if self._pending:
            return self._pending.popleft()
        session = self._session
        if session is None:
            return None
        if session.ready is not None and not self._was_ready:
            self._was_ready = True
            return pb.LiveResponse(ready=session.ready)
        if credit := session.door.owed_credit():
            return pb.LiveResponse(credit=pb.Credit(count=credit))
        if numbers := session.door.dropped_since():
            return pb.LiveResponse(dropped=pb.FramesDropped(numbers=numbers))
        return next(self._sending, None) or self._next_answer(session)

    def _next_answer(self, session: Session) -> Outgoing | None:
        if self._credit < 1 or (answer := session.answers.next()) is None:
            return None
        self._credit -= 1
        self._sending = answer.messages()
        if session.has_work:
            self._desk.turns.ask(session)
        return next(self._sending)


def _closed(error: WarplineError, is_kept: bool) -> pb.LiveResponse:
    problem = problem_message(error.problem(), error.retry_after_s)
    return pb.LiveResponse(closed=pb.SessionClosed(problem=problem, is_kept=is_kept))
