"""Trainings and the data sets that they are made on, by gRPC."""

import json
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from service.checksums import sha256_of
from service.client.packing import is_archive, pack
from service.client.rpc_flows import answer, upload
from service.client.rpc_steps import RpcFlow
from service.client.rpc_views import dataset_of, job_of
from service.client.training import DatasetId, DatasetTerms
from service.client.views import Dataset, DatasetList, Job
from service.errors import ConflictError, UploadNotFoundError
from service.pb import warpline_pb2 as pb


def train(config: Mapping[str, Any], terms: Mapping[str, Any]) -> RpcFlow[Job]:
    """Order a training; a folder of data is packed and sent first."""
    given = {name: value for name, value in terms.items() if value is not None}
    key = str(given.pop("idempotency_key", None) or uuid.uuid4())
    names = ("priority", "deadline_s")
    body: dict[str, Any] = {name: given.pop(name) for name in names if name in given}
    if "dataset_id" in given:
        given["dataset_id"] = str(given["dataset_id"])
    if "data" in given:
        given["upload_id"], _ = yield from _sent(Path(given.pop("data")))
    body |= {"config": dict(config), "data": given or None}
    request = pb.TrainRequest(body_json=json.dumps(body), idempotency_key=key)
    return job_of((yield from answer("Train", request)).job)


def register_dataset(name: str, **terms: Unpack[DatasetTerms]) -> RpcFlow[Dataset]:
    """Keep a folder, an archive or addresses on the server, to be trained on many times.

    An order whose answer was lost is not given twice: a data set of that name with the same data
    is the answer.

    Raises:
        ConflictError: If there is a data set of that name with other data.
    """
    given: dict[str, Any] = {key: value for key, value in terms.items() if value is not None}
    request, digest = pb.CreateDatasetRequest(name=name), ""
    if "data" in given:
        request.upload_id, digest = yield from _sent(Path(given["data"]))
    for one in given.get("urls", ()):
        address = {"url": one} if isinstance(one, str) else dict(one)
        request.urls.add(**address)
    if "listing" in given:
        listing = given["listing"]
        request.listing.bucket_url = listing["bucket_url"]
        request.listing.prefix = listing.get("prefix", "")
    try:
        return dataset_of((yield from answer("CreateDataset", request)).dataset)
    except (ConflictError, UploadNotFoundError):
        known = yield from _named(name)
        if known is None or not digest or known.sha256 != digest:
            raise
        return known


def _named(name: str) -> RpcFlow[Dataset | None]:
    cursor: str | None = None
    while True:
        page = yield from datasets(limit=200, cursor=cursor)
        for known in page.datasets:
            if known.name == name:
                return known
        cursor = page.cursor
        if cursor is None:
            return None


def datasets(*, limit: int = 50, cursor: str | None = None) -> RpcFlow[DatasetList]:
    """A page of your data sets, newest first."""
    request = pb.ListDatasetsRequest(page_size=limit, page_token=cursor or "")
    found = yield from answer("ListDatasets", request)
    page = [dataset_of(one) for one in found.datasets]
    return DatasetList(datasets=page, cursor=found.next_page_token or None)


def dataset(dataset_id: DatasetId) -> RpcFlow[Dataset]:
    """One data set."""
    request = pb.GetDatasetRequest(dataset_id=str(dataset_id))
    return dataset_of((yield from answer("GetDataset", request)).dataset)


def delete_dataset(dataset_id: DatasetId) -> RpcFlow[None]:
    """Forget a data set; trainings that were ordered with it keep it until they end."""
    yield from answer("DeleteDataset", pb.DeleteDatasetRequest(dataset_id=str(dataset_id)))


def _sent(data: Path) -> RpcFlow[tuple[str, str]]:
    """Send an archive, or a folder as one; gives the upload's id and the archive's SHA-256."""
    with tempfile.TemporaryDirectory(prefix="warpline-") as scratch:
        archive = data if is_archive(data) else pack(data, Path(scratch) / "data.zip")
        return str((yield from upload(archive)).id), sha256_of(archive)
