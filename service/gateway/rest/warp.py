"""`POST /warp`: a finished registration's transform, applied to more images, labels or points."""

from fastapi import APIRouter, BackgroundTasks, Request, Response
from starlette.concurrency import run_in_threadpool

from service.errors import (
    JobHasNoResultError,
    JobNotFinishedError,
    JobNotFoundError,
)
from service.gateway.auth import Caller
from service.gateway.desk import AtDesk
from service.gateway.orders import WarpOrder, read_order
from service.gateway.problems import problems
from service.gateway.rest.bodies import WARP_BODY
from service.gateway.rest.register import (
    INTAKE_ERRORS,
    JOB_RESPONSES,
    IdempotencyKey,
    Prefer,
    answer,
)
from service.gateway.rest.views import JobView
from service.gateway.taking_in import require_warp_files, take_in_warp
from service.registration.roles import WARP_ROLES

router = APIRouter(tags=["register"])


@router.post(
    "/warp",
    status_code=202,
    response_model=JobView,
    responses=JOB_RESPONSES
    | problems(*INTAKE_ERRORS, JobNotFoundError, JobNotFinishedError, JobHasNoResultError),
    openapi_extra=WARP_BODY,
    summary="Apply a finished job's transform to more data",
)
async def warp(
    request: Request,
    response: Response,
    after: BackgroundTasks,
    desk: AtDesk,
    caller: Caller,
    *,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> JobView:
    """Carry images and labels from the moving space onto the fixed grid, or points either way."""
    desk.spool.require_room()
    with desk.spool.folder() as folder:
        order = await read_order(request, WarpOrder, WARP_ROLES, folder)
        require_warp_files(order)
        taken = await run_in_threadpool(take_in_warp, desk, caller, order, idempotency_key, folder)
    after.add_task(taken.settle)
    return await answer(desk, response, taken, prefer)
