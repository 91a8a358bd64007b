"""`POST /train`: a configuration and data in, a job out, whose result is a model."""

from typing import Any

from fastapi import APIRouter, BackgroundTasks, Request, Response
from starlette.concurrency import run_in_threadpool

from service.errors import (
    ArchiveMemberError,
    ArchiveNestedError,
    ArchivePathError,
    ArchiveTooLargeError,
    ArchiveTooManyFilesError,
    BodyTooLargeError,
    DatasetNotFoundError,
    IdempotencyKeyReusedError,
    InvalidArchiveError,
    QueueFullError,
    QuotaExceededError,
    RateLimitedError,
    StorageFullError,
    StoreUnavailableError,
    TrainingNotOfferedError,
    UnauthenticatedError,
    UnsupportedFormatError,
    UploadIncompleteError,
    UploadNotFoundError,
    UrlNotAllowedError,
    ValidationError,
)
from service.gateway.auth import Caller
from service.gateway.desk import AtDesk
from service.gateway.problems import problems
from service.gateway.rest.register import (
    JOB_RESPONSES,
    IdempotencyKey,
    Prefer,
    answer,
)
from service.gateway.rest.views import JobView
from service.gateway.taking_in_data import require_training, take_in_training
from service.gateway.training import read_train_order

router = APIRouter(tags=["train"])

DATA_ERRORS = (
    UnauthenticatedError,
    UploadNotFoundError,
    UploadIncompleteError,
    BodyTooLargeError,
    UnsupportedFormatError,
    ValidationError,
    UrlNotAllowedError,
    InvalidArchiveError,
    ArchivePathError,
    ArchiveMemberError,
    ArchiveNestedError,
    ArchiveTooManyFilesError,
    ArchiveTooLargeError,
    RateLimitedError,
    StoreUnavailableError,
    StorageFullError,
)
TRAIN_ERRORS = (
    DatasetNotFoundError,
    IdempotencyKeyReusedError,
    QuotaExceededError,
    QueueFullError,
    TrainingNotOfferedError,
)
TRAIN_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            media_type: {
                "schema": {"$ref": "#/components/schemas/TrainOrder"},
                "example": {
                    "config": {
                        "name": "hippocampus",
                        "data": {"pairing": "unpaired", "labels": "required"},
                        "network": {"kind": "voxelmorph"},
                        "losses": {"image": [{"kind": "lncc"}], "label": [{"kind": "dice"}]},
                        "train": {"epochs": 50},
                    },
                    "data": {"dataset_id": "6f1f0c1e-54a9-4d0c-9d5f-0d4f4f0e7c11"},
                },
            }
            for media_type in ("application/json", "application/yaml")
        },
    }
}


@router.post(
    "/train",
    status_code=202,
    response_model=JobView,
    responses=JOB_RESPONSES | problems(*DATA_ERRORS, *TRAIN_ERRORS),
    openapi_extra=TRAIN_BODY,
    summary="Train a model",
)
async def train(
    request: Request,
    response: Response,
    after: BackgroundTasks,
    desk: AtDesk,
    caller: Caller,
    *,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> JobView:
    """Send a configuration and say where the data are; get a job, whose result is a model.

    The model appears among `/v1/models` as a new version with the alias `candidate`. Events tell
    epochs, losses and the time left.
    """
    require_training(desk)
    order = await read_train_order(request)
    taken = await run_in_threadpool(take_in_training, desk, caller, order, idempotency_key)
    after.add_task(taken.settle)
    return await answer(desk, response, taken, prefer)
