"""`GET /jobs/{id}/events`: what happens to a job, as it happens (server-sent events)."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from service.errors import JobNotFoundError, UnauthenticatedError
from service.gateway.auth import Caller
from service.gateway.desk import AtDesk, Desk
from service.gateway.pace import pause_s
from service.gateway.problems import problems
from service.gateway.rest.views import EventList, EventView
from service.jobs.job import Event, State
from service.jobs.ports import JobStore

router = APIRouter(tags=["jobs"])

LONGEST_PAUSE_S = 0.25
KEEP_ALIVE_S = 15.0
# A stream ends after this long; the client comes back with Last-Event-ID, as EventSource does.
LONGEST_STREAM_S = 15 * 60.0
TERMINAL = frozenset(state.value for state in State if state.is_terminal)
STREAMED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A stream that ends with the job; `Accept: application/json` gets a list.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@router.get(
    "/jobs/{job_id}/events",
    response_model=EventList,
    responses=STREAMED | problems(UnauthenticatedError, JobNotFoundError),
    summary="Follow a job",
)
async def events(
    job_id: UUID,
    request: Request,
    desk: AtDesk,
    caller: Caller,
    after: Annotated[int, Query(ge=0, description="Only events after this number.")] = 0,
    last_event_id: Annotated[
        int | None, Header(ge=0, description="Sent by EventSource when it comes back.")
    ] = None,
) -> Response:
    """Each event's id is its number; `Last-Event-ID` (or `after`) goes on where a stream broke."""
    store = desk.stores.jobs
    await run_in_threadpool(store.job, job_id, caller)
    start = after if last_event_id is None else last_event_id
    accept = request.headers.get("accept", "")
    if "application/json" in accept and "text/event-stream" not in accept:
        found = await run_in_threadpool(store.events, job_id, start)
        listed = EventList(events=[EventView.of(event) for event in found])
        return Response(
            listed.model_dump_json(), media_type="application/json", headers=STREAM_HEADERS
        )
    return StreamingResponse(
        _stream(desk, job_id, start), media_type="text/event-stream", headers=STREAM_HEADERS
    )


async def _stream(desk: Desk, job_id: UUID, after: int) -> AsyncIterator[bytes]:
    """Events as they come, a comment in long silences, and an end after a terminal event."""
    store = desk.stores.jobs
    yield b"retry: 1000\n\n"
    began = spoke = heard = time.monotonic()
    while time.monotonic() - began < LONGEST_STREAM_S and not desk.stopping.is_set():
        found = await run_in_threadpool(store.events, job_id, after)
        for event in found:
            yield rendered(event)
            after, spoke = event.seq, time.monotonic()
            heard = spoke
            if event.type in TERMINAL:
                return
        if not found and await _is_over(store, job_id, after):
            return
        if time.monotonic() - spoke >= KEEP_ALIVE_S:
            yield b": still here\n\n"
            spoke = time.monotonic()
        await asyncio.sleep(pause_s(time.monotonic() - heard, LONGEST_PAUSE_S))


async def _is_over(store: JobStore, job_id: UUID, after: int) -> bool:
    """Whether nothing can follow: the job is gone, or it had ended before we looked."""
    try:
        job = await run_in_threadpool(store.job, job_id)
    except JobNotFoundError:
        return True
    if not job.state.is_terminal:
        return False
    return not await run_in_threadpool(store.events, job_id, after)


def rendered(event: Event) -> bytes:
    """One event in the format of server-sent events."""
    data = json.dumps(EventView.of(event).model_dump(mode="json"), separators=(",", ":"))
    return f"id: {event.seq}\nevent: {event.type}\ndata: {data}\n\n".encode()
