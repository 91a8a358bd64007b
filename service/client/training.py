"""Trainings and the data sets that they are made on."""

import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

from service.checksums import sha256_of
from service.client.orders import AnyPath, fetch_limits, send_file
from service.client.packing import is_archive, pack
from service.client.retrying import answer
from service.client.steps import Call, Flow
from service.client.views import Dataset, DatasetList, Job
from service.errors import ConflictError, InvalidRequestError, UploadNotFoundError

DatasetId = uuid.UUID | str


class TrainTerms(TypedDict, total=False):
    """What may come with `train`. Data are one of data, dataset_id, urls and listing."""

    data: AnyPath  # a folder, a .zip or a .tar.gz
    dataset_id: DatasetId
    urls: Sequence[str | Mapping[str, str]]
    listing: Mapping[str, str]
    priority: int
    deadline_s: float
    idempotency_key: str


class DatasetTerms(TypedDict, total=False):
    """Where the files of a data set are: one of these."""

    data: AnyPath
    urls: Sequence[str | Mapping[str, str]]
    listing: Mapping[str, str]


def train(config: Mapping[str, Any], terms: Mapping[str, Any]) -> Flow[Job]:
    """Order a training; a folder of data is packed and sent first."""
    given = {name: value for name, value in terms.items() if value is not None}
    key = given.pop("idempotency_key", None) or str(uuid.uuid4())
    names = ("priority", "deadline_s")
    body: dict[str, Any] = {name: given.pop(name) for name in names if name in given}
    source, _ = yield from _source(given)
    body |= {"config": dict(config), "data": source or None}
    headers = {"idempotency-key": str(key)}
    reply = yield from answer(Call("POST", "/v1/train", headers=headers, json=body))
    return Job.model_validate_json(reply.body)


def register_dataset(name: str, **terms: Unpack[DatasetTerms]) -> Flow[Dataset]:
    """Keep a folder, an archive or addresses on the server, to be trained on many times.

    Raises:
        ConflictError: If there is a data set of that name with other data.
    """
    given: dict[str, Any] = {key: value for key, value in terms.items() if value is not None}
    source, digest = yield from _source(given)
    try:
        reply = yield from answer(Call("POST", "/v1/datasets", json={"name": name, **source}))
    except (ConflictError, UploadNotFoundError):
        # The answer to the first try was lost, or somebody was here before with the same data.
        known = yield from _named(name)
        if known is None or known.sha256 is None or known.sha256 != digest:
            raise
        return known
    return Dataset.model_validate_json(reply.body)


def _named(name: str) -> Flow[Dataset | None]:
    cursor = None
    while True:
        page = yield from datasets(limit=200, cursor=cursor)
        for known in page.datasets:
            if known.name == name:
                return known
        cursor = page.cursor
        if cursor is None:
            return None


def datasets(*, limit: int = 50, cursor: str | None = None) -> Flow[DatasetList]:
    """A page of your data sets, newest first."""
    query = {"limit": limit} | ({"cursor": cursor} if cursor else {})
    reply = yield from answer(Call("GET", "/v1/datasets", query=query))
    return DatasetList.model_validate_json(reply.body)


def dataset(dataset_id: DatasetId) -> Flow[Dataset]:
    """One data set."""
    reply = yield from answer(Call("GET", f"/v1/datasets/{dataset_id}"))
    return Dataset.model_validate_json(reply.body)


def delete_dataset(dataset_id: DatasetId) -> Flow[None]:
    """Forget a data set; trainings that were ordered with it keep it until they end."""
    yield from answer(Call("DELETE", f"/v1/datasets/{dataset_id}"))


def _source(given: dict[str, Any]) -> Flow[tuple[dict[str, Any], str | None]]:
    """Where the data are, in the API's words, and the digest of what was sent from here."""
    source, digest = dict(given), None
    if "dataset_id" in source:
        source["dataset_id"] = str(source["dataset_id"])
    if "data" in source:
        source["upload_id"], digest = yield from _sent(Path(source.pop("data")))
    return source, digest


def _sent(data: Path) -> Flow[tuple[str, str]]:
    """Send an archive, or a folder as one; gives the upload's id and the archive's SHA-256."""
    limits = yield from fetch_limits()
    with tempfile.TemporaryDirectory(prefix="warpline-") as scratch:
        archive = data if is_archive(data) else pack(data, Path(scratch) / "data.zip")
        if archive.stat().st_size > limits.max_upload_bytes:
            raise InvalidRequestError(
                f"The data take {archive.stat().st_size >> 20} MiB, packed; the server takes "
                f"{limits.max_upload_bytes >> 20}. Put them where it can fetch them, by `urls` "
                "or `listing`.",
                field="data",
            )
        upload = yield from send_file(archive, limits)
        return str(upload.id), sha256_of(archive)
