"""Waiting for a job: `Prefer: wait=N` (RFC 7240)."""

import asyncio
import re
import time
from threading import Event

from starlette.concurrency import run_in_threadpool

from service.gateway.pace import pause_s
from service.jobs.job import Job
from service.jobs.ports import JobStore

LONGEST_WAIT_S = 60
LONGEST_PAUSE_S = 0.5
WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?:$|[,;])", re.IGNORECASE)


def preferred_wait_s(prefer: str | None) -> int | None:
    """The seconds that a `Prefer` header asks to wait, at most 60; None when it asks for none."""
    found = WAIT.search(prefer or "")
    return min(int(found[1]), LONGEST_WAIT_S) if found else None


async def finished(jobs: JobStore, job: Job, wait_s: float, stopping: Event) -> Job:
    """The job when it has ended, or as it is when the time is up or the service is to stop."""
    began = time.monotonic()
    while not (job.state.is_terminal or stopping.is_set()):
        waited_s = time.monotonic() - began
        if waited_s >= wait_s:
            break
        await asyncio.sleep(min(pause_s(waited_s, LONGEST_PAUSE_S), wait_s - waited_s))
        job = await run_in_threadpool(jobs.job, job.id)
    return job
