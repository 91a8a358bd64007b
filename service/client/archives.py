"""Series that lie in a server's archives, and results that go there; over REST."""

import uuid
from collections.abc import Mapping
from typing import Any

from service.client.fetching import JobId
from service.client.retrying import answer
from service.client.steps import Call, Flow
from service.client.views import Job

Series = Mapping[str, str]


def register_series(
    inputs: Mapping[str, Series],
    options: Mapping[str, Any] | None = None,
    store_to: str | None = None,
) -> Flow[Job]:
    """Order a registration of series that the server fetches from its archives.

    Args:
        inputs: By role, `{"pacs": NAME, "study": UID, "series": UID}`.
        options: As of `register`.
        store_to: The archive that gets the result's DICOM objects; `links["store"]` of the job,
            once it has succeeded, leads to the job that sends them.
    """
    body: dict[str, Any] = {"inputs": dict(inputs), "options": dict(options or {})}
    if store_to is not None:
        body["store_to"] = store_to
    return (yield from _ordered("/v1/register", body))


def store(job_id: JobId, pacs: str) -> Flow[Job]:
    """Have a finished job's DICOM objects sent to an archive, by a job of its own."""
    return (yield from _ordered(f"/v1/jobs/{job_id}/store", {"pacs": pacs}))


def _ordered(path: str, body: dict[str, Any]) -> Flow[Job]:
    headers = {"idempotency-key": str(uuid.uuid4())}
    reply = yield from answer(Call("POST", path, headers=headers, json=body))
    return Job.model_validate_json(reply.body)
