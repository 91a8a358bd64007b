"""`/datasets`: data sent once, trained on many times."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import AwareDatetime, Field
from starlette.concurrency import run_in_threadpool

from service.errors import ConflictError, DatasetNotFoundError, UnauthenticatedError
from service.gateway.auth import Caller
from service.gateway.desk import AtDesk
from service.gateway.orders import validated
from service.gateway.problems import problems
from service.gateway.rest.train import DATA_ERRORS
from service.gateway.rest.views import View
from service.gateway.taking_in_data import add_dataset
from service.gateway.taking_in_data import delete_dataset as forget
from service.gateway.training import DatasetOrder
from service.jobs.datasets import Dataset

router = APIRouter(tags=["train"])

DATASET_ERRORS = problems(UnauthenticatedError, DatasetNotFoundError)
DATASET_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/DatasetOrder"},
                "example": {
                    "name": "hippocampus-2026",
                    "upload_id": "6f1f0c1e-54a9-4d0c-9d5f-0d4f4f0e7c11",
                },
            }
        },
    }
}


class DatasetView(View):
    """A data set of yours. Digest and size are null for files that lie elsewhere."""

    id: UUID
    name: str
    sha256: str | None = Field(description="Of the archive.")
    bytes: int | None = Field(description="Of the archive.")
    files: int | None = Field(description="How many files there are, where that is known.")
    created_at: AwareDatetime

    @classmethod
    def of(cls, dataset: Dataset) -> "DatasetView":
        return cls.model_validate(dataset.model_dump(include=set(cls.model_fields)))


class DatasetList(View):
    """A page of data sets, newest first."""

    datasets: list[DatasetView]
    cursor: str | None = Field(description="Send it back to get the next page; null on the last.")


@router.post(
    "/datasets",
    status_code=201,
    responses=problems(*DATA_ERRORS, ConflictError),
    openapi_extra=DATASET_BODY,
    summary="Register a data set",
)
async def register_dataset(
    request: Request, response: Response, desk: AtDesk, caller: Caller
) -> DatasetView:
    """An upload becomes the data set and no longer expires; addresses are noted."""
    order = validated(DatasetOrder, await request.body())
    made = await run_in_threadpool(add_dataset, desk, caller, order)
    response.headers["Location"] = f"/v1/datasets/{made.id}"
    return DatasetView.of(made)


@router.get("/datasets", responses=problems(UnauthenticatedError), summary="List your data sets")
def datasets(
    desk: AtDesk,
    caller: Caller,
    limit: Annotated[int, Query(ge=1, le=200, description="Data sets on a page.")] = 50,
    cursor: Annotated[
        str | None, Query(max_length=512, description="From the page before.")
    ] = None,
) -> DatasetList:
    """Newest first, a page at a time."""
    page = desk.stores.datasets.page(caller, limit=limit, cursor=cursor)
    return DatasetList(datasets=[DatasetView.of(one) for one in page.datasets], cursor=page.cursor)


@router.get("/datasets/{dataset_id}", responses=DATASET_ERRORS, summary="Look at a data set")
def dataset(dataset_id: UUID, desk: AtDesk, caller: Caller) -> DatasetView:
    """Digest, size and count of files."""
    return DatasetView.of(desk.stores.datasets.dataset(dataset_id, caller))


@router.delete(
    "/datasets/{dataset_id}",
    status_code=204,
    responses=DATASET_ERRORS,
    summary="Delete a data set",
)
def delete_dataset(dataset_id: UUID, desk: AtDesk, caller: Caller) -> Response:
    """Trainings that were ordered with it keep it until they end."""
    forget(desk, dataset_id, caller)
    return Response(status_code=204)
