"""Jobs: list, look, cancel, delete."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response

from service.errors import ConflictError, JobNotFoundError, UnauthenticatedError
from service.gateway.auth import Caller
from service.gateway.closing import cancel_job, delete_job
from service.gateway.desk import AtDesk
from service.gateway.problems import problems
from service.gateway.rest.views import JobList, JobView
from service.jobs.job import State

router = APIRouter(tags=["jobs"])

CANCELLED: dict[int | str, dict[str, Any]] = {
    202: {"model": JobView, "description": "It was not finished and is cancelled."}
}
JOB_ERRORS = problems(UnauthenticatedError, JobNotFoundError)


@router.get("/jobs", responses=problems(UnauthenticatedError), summary="List your jobs")
def jobs(
    desk: AtDesk,
    caller: Caller,
    response: Response,
    state: Annotated[list[State], Query(description="Only jobs in these states.")] = [],  # noqa: B006 - FastAPI copies it
    limit: Annotated[int, Query(ge=1, le=200, description="Jobs on a page.")] = 50,
    cursor: Annotated[
        str | None, Query(max_length=512, description="From the page before.")
    ] = None,
) -> JobList:
    """Newest first, a page at a time."""
    page = desk.stores.jobs.page(caller, states=state, limit=limit, cursor=cursor)
    response.headers["Cache-Control"] = "no-store"
    return JobList(jobs=[JobView.of(job) for job in page.jobs], cursor=page.cursor)


@router.get("/jobs/{job_id}", responses=JOB_ERRORS, summary="Look at a job")
def job(job_id: UUID, desk: AtDesk, caller: Caller, response: Response) -> JobView:
    """State, stage, progress, place in the queue, time left; once it ended, summary or problem."""
    response.headers["Cache-Control"] = "no-store"
    found = desk.stores.jobs.job(job_id, caller)
    if not found.state.is_terminal:
        response.headers["Retry-After"] = "1"
    return JobView.of(found, desk.stores.jobs.place(job_id))


@router.post("/jobs/{job_id}/cancel", status_code=202, responses=JOB_ERRORS, summary="Cancel a job")
def cancel(job_id: UUID, desk: AtDesk, caller: Caller) -> JobView:
    """A queued job ends at once, a running one within seconds; a finished one stays as it is."""
    return JobView.of(cancel_job(desk, job_id, caller))


@router.delete(
    "/jobs/{job_id}",
    status_code=204,
    responses=CANCELLED | problems(UnauthenticatedError, JobNotFoundError, ConflictError),
    summary="Cancel a job, or delete a finished one",
)
def delete(job_id: UUID, desk: AtDesk, caller: Caller) -> Response:
    """An unfinished job is cancelled (202); a finished one is deleted with its files (204)."""
    found = desk.stores.jobs.job(job_id, caller)
    if not found.state.is_terminal:
        view = JobView.of(cancel_job(desk, job_id, caller))
        return Response(view.model_dump_json(), 202, media_type="application/json")
    delete_job(desk, job_id, caller)
    return Response(status_code=204)
