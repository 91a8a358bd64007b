"""Series that lie in a server's archives, and results that go there; by gRPC."""

import uuid
from collections.abc import Mapping
from typing import Any

from service.client.archives import Series
from service.client.fetching import JobId
from service.client.orders import Order
from service.client.rpc_flows import answer, register_start, sent_as
from service.client.rpc_sending import Sending
from service.client.rpc_steps import RpcFlow
from service.client.rpc_views import job_of
from service.client.views import Job
from service.errors import InvalidRequestError
from service.pb import warpline_pb2 as pb


def register_series(
    inputs: Mapping[str, Series],
    options: Mapping[str, Any] | None = None,
    store_to: str | None = None,
) -> RpcFlow[Job]:
    """Order a registration of series that the server fetches from its archives.

    Args:
        inputs: By role, `{"pacs": NAME, "study": UID, "series": UID}`.
        options: As of `register`.
        store_to: The archive that gets the result's DICOM objects; `links["store"]` of the job,
            once it has succeeded, leads to the job that sends them.
    """
    start = register_start(Order.of("register", dict(options or {})))
    for role, series in inputs.items():
        start.inputs[role].pacs.CopyFrom(_series(series, role))
    start.store_to = store_to or ""
    return (yield from sent_as(start, Sending([])))


def _series(series: Series, role: str) -> pb.PacsSeries:
    try:
        return pb.PacsSeries(**series)
    except (TypeError, ValueError):
        raise InvalidRequestError(
            "A series in an archive is named by pacs, study and series.", field=role
        ) from None


def store(job_id: JobId, pacs: str) -> RpcFlow[Job]:
    """Have a finished job's DICOM objects sent to an archive, by a job of its own."""
    request = pb.StoreResultRequest(
        job_id=str(job_id), pacs=pacs, idempotency_key=str(uuid.uuid4())
    )
    return job_of((yield from answer("StoreResult", request)).job)
