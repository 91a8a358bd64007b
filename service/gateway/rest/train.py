"""`POST /train`: a configuration and data in, a job out, whose result is a model."""

from pathlib import Path
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
from service.gateway.desk import AtDesk, Desk
from service.gateway.inputs import from_upload
from service.gateway.problems import problems
from service.gateway.rest.register import (
    JOB_RESPONSES,
    IdempotencyKey,
    Prefer,
    answer,
    ticket_of,
)
from service.gateway.rest.views import JobView
from service.gateway.submitting import Taken, submit
from service.gateway.training import (
    DataSource,
    TrainOrder,
    checked_config,
    files_by_address,
    listed,
    read_train_order,
)
from service.jobs import job as jobs
from service.jobs.archive import ArchiveLimits, Contents, look_through
from service.jobs.datasets import ARCHIVE
from service.jobs.job import InputFile, Kind
from service.jobs.model import NewModel

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
    if not desk.settings.training:
        raise TrainingNotOfferedError(
            "No worker of this service trains. Its operator can install the extra `trainer`, or "
            "start a trainer worker and set WARPLINE_TRAINING."
        )
    order = await read_train_order(request)
    taken = await run_in_threadpool(_take_in, desk, caller, order, idempotency_key)
    after.add_task(taken.settle)
    return await answer(desk, response, taken, prefer)


def _take_in(desk: Desk, owner: str, order: TrainOrder, key: str | None) -> Taken:
    config = checked_config(order, desk.settings)
    inputs = _inputs(desk, owner, order.data)
    wanted = NewModel(name=config.name, above=desk.models.last_shipped_number(config.name))
    asked = jobs.Request(kind=Kind.TRAIN, inputs=inputs, options={"config": order.config})
    return submit(desk, owner, ticket_of(order, key), {}, lambda _kept: asked, publishes=wanted)


def _inputs(desk: Desk, owner: str, source: DataSource | None) -> dict[str, InputFile]:
    """Where the worker finds the data; an archive is looked through first."""
    if source is None:
        return {}
    if source.dataset_id is not None:
        return desk.stores.datasets.dataset(source.dataset_id, owner).inputs
    if source.upload_id is not None:
        file = from_upload(desk.stores, owner, source.upload_id, "data", field="/data/upload_id")
        check_archive(desk, file, "/data/upload_id")
        return {ARCHIVE: file}
    if source.listing is not None:
        return listed(desk.settings, source.listing, "/data/listing")
    return files_by_address(desk.settings, source.urls, "/data/urls")


def check_archive(desk: Desk, file: InputFile, field: str) -> Contents:
    """Look through a stored archive before a job or a data set is made of it.

    Raises:
        InvalidArchiveError: Its subclass says what is wrong.
        StorageFullError: If there is no room to look at it.
    """
    settings = desk.settings
    limits = ArchiveLimits(settings.max_dataset_files, settings.max_dataset_mib << 20)
    desk.spool.require_room(file.bytes or 0)
    with desk.spool.folder() as folder:
        copy: Path = folder / "archive"
        desk.stores.blobs.get_file(str(file.key), copy)
        try:
            return look_through(copy, limits)
        except InvalidArchiveError as error:
            error.field = field
            raise
