"""`POST /jobs/{id}/store`: a finished job's DICOM objects go to an archive."""

from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from service.errors import (
    IdempotencyKeyReusedError,
    JobHasNoResultError,
    JobNotFinishedError,
    JobNotFoundError,
    NothingToStoreError,
    PacsUnknownError,
    QueueFullError,
    QuotaExceededError,
    UnauthenticatedError,
    ValidationError,
)
from service.gateway.auth import Caller
from service.gateway.desk import AtDesk
from service.gateway.problems import problems
from service.gateway.rest.register import IdempotencyKey
from service.gateway.rest.views import JobView
from service.gateway.storing import store_result

router = APIRouter(tags=["jobs"])


class StoreOrder(BaseModel):
    """Where a result is to go."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pacs: str = Field(max_length=63, description="The archive, by the operator's name for it.")


@router.post(
    "/jobs/{job_id}/store",
    status_code=202,
    responses=problems(
        UnauthenticatedError,
        JobNotFoundError,
        JobNotFinishedError,
        JobHasNoResultError,
        NothingToStoreError,
        PacsUnknownError,
        ValidationError,
        IdempotencyKeyReusedError,
        QuotaExceededError,
        QueueFullError,
    ),
    summary="Send a result to an archive",
)
def store(
    job_id: UUID,
    order: StoreOrder,
    desk: AtDesk,
    caller: Caller,
    response: Response,
    *,
    idempotency_key: IdempotencyKey = None,
) -> JobView:
    """A job of kind `store` sends the DICOM objects; while the archive is away it tries again.

    Objects that the archive has already are not sent twice.
    """
    job, is_replayed = store_result(desk, caller, job_id, order.pacs, idempotency_key)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    if is_replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return JobView.of(job, desk.stores.jobs.place(job.id))
