"""Trainings and the data sets that they are made on, by gRPC."""

import json
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.client.packing import is_archive, pack
from service.client.rpc_flows import answer, upload
from service.client.rpc_steps import RpcFlow
from service.client.rpc_views import dataset_of, job_of
from service.client.training import DatasetId
from service.client.views import Dataset, DatasetList, Job
from service.errors import InvalidRequestError
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
        given["upload_id"] = yield from _sent(Path(given.pop("data")))
    body |= {"config": dict(config), "data": given or None}
    request = pb.TrainRequest(body_json=json.dumps(body), idempotency_key=key)
    return job_of((yield from answer("Train", request)).job)


def register_dataset(name: str, terms: Mapping[str, Any]) -> RpcFlow[Dataset]:
    """Keep data on the server, to be trained on many times.

    Raises:
        InvalidRequestError: If they are no folder or archive here.
    """
    given = {key: value for key, value in terms.items() if value is not None}
    if set(given) != {"data"}:
        raise InvalidRequestError(
            "By gRPC a data set is made of a folder or an archive; use the REST API for data that "
            "lie elsewhere.",
            field="data",
        )
    request = pb.CreateDatasetRequest(name=name, upload_id=(yield from _sent(Path(given["data"]))))
    return dataset_of((yield from answer("CreateDataset", request)).dataset)


def datasets() -> RpcFlow[DatasetList]:
    """The caller's data sets."""
    found = yield from answer("ListDatasets", pb.ListDatasetsRequest())
    return DatasetList(datasets=[dataset_of(one) for one in found.datasets])


def delete_dataset(dataset_id: DatasetId) -> RpcFlow[None]:
    """Forget a data set."""
    yield from answer("DeleteDataset", pb.DeleteDatasetRequest(dataset_id=str(dataset_id)))


def _sent(data: Path) -> RpcFlow[str]:
    """Send an archive, or a folder as one; gives the upload's id."""
    with tempfile.TemporaryDirectory(prefix="warpline-") as scratch:
        archive = data if is_archive(data) else pack(data, Path(scratch) / "data.zip")
        return str((yield from upload(archive)).id)
