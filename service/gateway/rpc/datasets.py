"""Data sets over gRPC: data sent once, trained on many times."""

from typing import Any

from starlette.concurrency import run_in_threadpool

from service.gateway.orders import validated
from service.gateway.rpc.clerk import Clerk, listed, uuid_of
from service.gateway.rpc.messages import timestamp
from service.gateway.taking_in_data import add_dataset, delete_dataset
from service.gateway.training import DatasetOrder
from service.jobs.datasets import Dataset
from service.pb import warpline_pb2 as pb
from service.rpc.calls import caller


class Datasets(Clerk):
    """The methods about data sets."""

    async def CreateDataset(
        self, request: pb.CreateDatasetRequest, context: Any
    ) -> pb.CreateDatasetResponse:
        """An upload becomes the data set and no longer expires; addresses are noted."""
        order = validated(DatasetOrder, _body(request))
        made = await run_in_threadpool(add_dataset, self.desk, caller(), order)
        return pb.CreateDatasetResponse(dataset=dataset_message(made))

    async def GetDataset(
        self, request: pb.GetDatasetRequest, context: Any
    ) -> pb.GetDatasetResponse:
        """Digest, size and count of files."""
        dataset_id = uuid_of(request.dataset_id, "dataset_id")
        found = await run_in_threadpool(self.desk.stores.datasets.dataset, dataset_id, caller())
        return pb.GetDatasetResponse(dataset=dataset_message(found))

    async def ListDatasets(
        self, request: pb.ListDatasetsRequest, context: Any
    ) -> pb.ListDatasetsResponse:
        """Newest first, a page at a time."""
        found = await listed(self.desk.stores.datasets.page, request)
        return pb.ListDatasetsResponse(
            datasets=[dataset_message(one) for one in found.datasets],
            next_page_token=found.cursor or "",
        )

    async def DeleteDataset(
        self, request: pb.DeleteDatasetRequest, context: Any
    ) -> pb.DeleteDatasetResponse:
        """Trainings that were ordered with it keep it until they end."""
        dataset_id = uuid_of(request.dataset_id, "dataset_id")
        await run_in_threadpool(delete_dataset, self.desk, dataset_id, caller())
        return pb.DeleteDatasetResponse()


def _body(request: pb.CreateDatasetRequest) -> dict[str, Any]:
    """The same order as over REST."""
    body: dict[str, Any] = {"name": request.name}
    if request.upload_id:
        body["upload_id"] = request.upload_id
    if request.urls:
        body["urls"] = [{"url": one.url, "path": one.path or None} for one in request.urls]
    if request.HasField("listing"):
        listing = request.listing
        body["listing"] = {"bucket_url": listing.bucket_url, "prefix": listing.prefix}
    return body


def dataset_message(dataset: Dataset) -> pb.Dataset:
    """A data set, as REST shows it."""
    return pb.Dataset(
        id=str(dataset.id),
        name=dataset.name,
        size_bytes=dataset.bytes,
        files=dataset.files,
        created_at=timestamp(dataset.created_at),
        sha256=dataset.sha256 or "",
    )
