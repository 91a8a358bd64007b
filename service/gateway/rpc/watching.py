"""`WatchJob`: what happens to a job, as it happens."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool

from service.errors import UnavailableError, ValidationError
from service.gateway.desk import Desk
from service.gateway.pace import pause_s
from service.gateway.rpc.clerk import Clerk, uuid_of
from service.gateway.rpc.messages import TERMINAL, event_message, job_message
from service.jobs.job import Job, State
from service.pb import warpline_pb2 as pb
from service.rpc.calls import caller

LONGEST_PAUSE_S = {State.RUNNING: 0.25, State.QUEUED: 1.0}


class Watching(Clerk):
    """The method that follows a job."""

    async def WatchJob(
        self, request: pb.WatchJobRequest, context: Any
    ) -> AsyncIterator[pb.WatchJobResponse]:
        """Events after the number given, then new ones, until the job has ended."""
        if request.after_event < 0:
            raise ValidationError("after_event counts from 0.", field="after_event")
        job_id = uuid_of(request.job_id, "job_id")
        job = await run_in_threadpool(self.desk.stores.jobs.job, job_id, caller())
        async for answer in watch(self.desk, job, request.after_event):
            yield answer


async def watch(desk: Desk, job: Job, after: int = 0) -> AsyncGenerator[pb.WatchJobResponse, None]:
    """What happens to a job after an event number; ends with the job.

    Raises:
        JobNotFoundError: If somebody deletes it.
        UnavailableError: If this process is to stop; another goes on after the last event.
    """
    follower = Follower(desk, job, after)
    heard = time.monotonic()
    while True:
        news = await run_in_threadpool(follower.look)
        for answer in news:
            yield answer
        if follower.is_over:
            return
        if desk.stopping.is_set():
            raise UnavailableError(
                "This process is stopping; watch again, after the last event that you have seen.",
                retry_after_s=1,
            )
        now = time.monotonic()
        heard = now if news else heard
        await asyncio.sleep(pause_s(now - heard, LONGEST_PAUSE_S[follower.job.state]))


@dataclass
class Follower:
    """One who follows a job, and what was told already."""

    desk: Desk
    job: Job
    after: int
    is_over: bool = False
    _seen: Job | None = None

    def look(self) -> list[pb.WatchJobResponse]:
        """What is new: events, or else progress. One row is read where nothing has changed."""
        store = self.desk.stores.jobs
        self.job = store.job(self.job.id)
        if self.job == self._seen:
            return []
        events = store.events(self.job.id, self.after)
        if events and events[-1].type in TERMINAL and not self.job.state.is_terminal:
            self.job = store.job(self.job.id)  # it ended between the two questions
        told = [pb.WatchJobResponse(event=event_message(one, self.job)) for one in events]
        if not events and self._has_moved():
            told.append(pb.WatchJobResponse(progress=job_message(self.job)))
        self._seen, self.after = self.job, events[-1].seq if events else self.after
        self.is_over = self.job.state.is_terminal
        return told

    def _has_moved(self) -> bool:
        return (
            self._seen is not None
            and not self.job.state.is_terminal
            and self.job.progress != self._seen.progress
        )
