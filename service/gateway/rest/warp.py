"""`POST /warp`: a finished registration's transform, applied to more images, labels or points."""

from fastapi import APIRouter, BackgroundTasks, Request, Response
from starlette.concurrency import run_in_threadpool

from service.errors import (
    JobHasNoResultError,
    JobNotFinishedError,
    JobNotFoundError,
    ValidationError,
)
from service.gateway.auth import Caller
from service.gateway.desk import AtDesk, Desk
from service.gateway.door import check_files
from service.gateway.inputs import referred
from service.gateway.orders import Submission, WarpOrder, read_order
from service.gateway.problems import problems
from service.gateway.rest.bodies import WARP_BODY
from service.gateway.rest.register import (
    INTAKE_ERRORS,
    JOB_RESPONSES,
    IdempotencyKey,
    Prefer,
    answer,
    ticket_of,
)
from service.gateway.rest.results import manifest_of
from service.gateway.rest.views import JobView
from service.gateway.submitting import Taken, local_paths, submit
from service.jobs import job as jobs
from service.jobs.job import InputFile, Kind
from service.registration.roles import WARP_ROLES

router = APIRouter(tags=["register"])

TRANSFORMS = {"ddf": "ddf.nii.gz", "inverse_ddf": "inverse_ddf.nii.gz"}


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
        _require_files(order)

        def take_in() -> Taken:
            transforms = _transforms(desk, caller, order.order)
            references = {str(role): ref for role, ref in order.order.inputs.items()}
            inputs = referred(desk.stores, desk.settings, caller, references)
            check_files(local_paths(desk, order.arrivals, inputs, folder), desk.file_limits)
            return submit(
                desk,
                caller,
                ticket_of(order.order, idempotency_key),
                order.arrivals,
                lambda kept: _request(order.order, inputs | kept, transforms),
            )

        taken = await run_in_threadpool(take_in)
    after.add_task(taken.settle)
    return await answer(desk, response, taken, prefer)


def _require_files(order: Submission[WarpOrder]) -> None:
    if not order.roles:
        raise ValidationError("Send at least one of image, labels and points.", field="/inputs")
    if "points" in order.roles and order.order.points_from is None:
        raise ValidationError(
            "Say with `from` whether the points lie in fixed or in moving space: the two move by "
            "opposite fields.",
            field="/from",
        )


def _transforms(desk: Desk, owner: str, order: WarpOrder) -> dict[str, InputFile]:
    """The fields of the source job as inputs.

    Raises:
        JobNotFoundError: If there is no such job of the caller's.
        JobNotFinishedError, JobHasNoResultError: If it has no transform.
    """
    files = manifest_of(desk.stores.jobs.job(order.job_id, owner)).files
    found = {role: files[name] for role, name in TRANSFORMS.items() if name in files}
    if "ddf" not in found:
        raise JobHasNoResultError("That job made no transform; name a registration.")
    return {
        role: InputFile(key=file.key, sha256=file.sha256, bytes=file.bytes)
        for role, file in found.items()
    }


def _request(
    order: WarpOrder, inputs: dict[str, InputFile], transforms: dict[str, InputFile]
) -> jobs.Request:
    """The job: an image is a moving one, points are named after the space they lie in."""
    roles = {
        "image": "moving",
        "labels": "moving_labels",
        "points": f"{order.points_from or 'fixed'}_points",
    }
    return jobs.Request(
        kind=Kind.WARP,
        inputs={roles[role]: file for role, file in inputs.items()} | transforms,
        options=order.options.model_dump(mode="json"),
    )
