"""`POST /register`: two volumes in, a job out, or its result when the caller likes to wait."""

from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Header, Request, Response
from starlette.concurrency import run_in_threadpool

from service.errors import (
    BodyTooLargeError,
    GridMismatchError,
    IdempotencyKeyReusedError,
    InvalidFileError,
    ModelNotFoundError,
    QueueFullError,
    QuotaExceededError,
    RateLimitedError,
    RequestTimeoutError,
    StorageFullError,
    StoreUnavailableError,
    UnauthenticatedError,
    UnsupportedFormatError,
    UploadIncompleteError,
    UploadNotFoundError,
    UrlNotAllowedError,
    ValidationError,
    VolumeTooLargeError,
)
from service.gateway.auth import Caller
from service.gateway.desk import AtDesk, Desk
from service.gateway.orders import RegisterOrder, read_order
from service.gateway.problems import problems
from service.gateway.rest.bodies import REGISTER_BODY
from service.gateway.rest.views import JobView
from service.gateway.rest.waiting import finished, preferred_wait_s
from service.gateway.submitting import Taken
from service.gateway.taking_in import take_in_registration
from service.registration.roles import REGISTER_ROLES

router = APIRouter(tags=["register"])

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        description="Makes a retry safe: the same key and request give the same job, marked "
        "`Idempotent-Replayed: true`; the same key with another request is an error.",
    ),
]
Prefer = Annotated[
    str | None,
    Header(description="`wait=N`: answer with the finished job if it ends within N (<= 60) s."),
]
INTAKE_ERRORS = (
    UnauthenticatedError,
    ModelNotFoundError,
    UploadNotFoundError,
    RequestTimeoutError,
    UploadIncompleteError,
    BodyTooLargeError,
    VolumeTooLargeError,
    UnsupportedFormatError,
    ValidationError,
    InvalidFileError,
    IdempotencyKeyReusedError,
    UrlNotAllowedError,
    RateLimitedError,
    QuotaExceededError,
    QueueFullError,
    StoreUnavailableError,
    StorageFullError,
)
JOB_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": JobView, "description": "The finished job, when `Prefer: wait` was long enough."}
}


@router.post(
    "/register",
    status_code=202,
    response_model=JobView,
    responses=JOB_RESPONSES | problems(*INTAKE_ERRORS, GridMismatchError),
    openapi_extra=REGISTER_BODY,
    summary="Register a moving volume to a fixed one",
)
async def register(
    request: Request,
    response: Response,
    after: BackgroundTasks,
    desk: AtDesk,
    caller: Caller,
    *,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> JobView:
    """Send two volumes; get a job, whose result is the moving one warped onto the fixed one.

    Small files come as multipart/form-data, one part per role; large ones through `/v1/uploads`,
    named here in JSON. Every header is checked before the job is made, so a bad file is refused
    at once.
    """
    desk.spool.require_room()
    with desk.spool.folder() as folder:
        order = await read_order(request, RegisterOrder, REGISTER_ROLES, folder)
        taken = await run_in_threadpool(
            take_in_registration, desk, caller, order, idempotency_key, folder
        )
    after.add_task(taken.settle)
    return await answer(desk, response, taken, prefer)


async def answer(desk: Desk, response: Response, taken: Taken, prefer: str | None) -> JobView:
    """The answer to a submitted job: 202 with its address, or 200 with it finished."""
    job = taken.job
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    if taken.is_replayed:
        response.headers["Idempotent-Replayed"] = "true"
    wait_s = preferred_wait_s(prefer)
    if wait_s is not None:
        response.headers["Preference-Applied"] = f"wait={wait_s}"
        job = await finished(desk.stores.jobs, job, wait_s, desk.stopping)
    if wait_s is not None and job.state.is_terminal:
        response.status_code = 200
    else:
        response.headers["Retry-After"] = "1"
    place = await run_in_threadpool(desk.stores.jobs.place, job.id)
    return JobView.of(job, place)
