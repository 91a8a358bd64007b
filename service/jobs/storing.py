"""Sending a finished job's DICOM objects to an archive, as a job of its own.

A job and the one that stores it are told apart so that a result is there at once, however long the
archive is away. The second is made in the transaction that ends the first: none is forgotten.
"""

from collections.abc import Mapping
from datetime import timedelta
from uuid import uuid4

from service.jobs.digest import request_digest
from service.jobs.job import InputFile, Job, Kind, Manifest, NewJob, Queue, Request, ResultFile

# Before cohorts, behind whoever waits for a result.
STORE_QUEUE, STORE_PRIORITY = Queue.BATCH, 0
SHORTEST_WAIT_S, LONGEST_WAIT_S = 2.0, 600.0


def store_request(source: Job, files: Mapping[str, ResultFile], pacs: str) -> Request:
    """What a job is to send where; its inputs keep the results from being removed meanwhile."""
    inputs = {
        name: InputFile(key=file.key, sha256=file.sha256, bytes=file.bytes)
        for name, file in files.items()
        if name.endswith((".dcm", "_dicom.zip"))
    }
    options = {"pacs": pacs, "job_id": str(source.id)}
    return Request(kind=Kind.STORE, inputs=inputs, options=options)


def follow_up(source: Job, manifest: Manifest, patience: timedelta) -> NewJob | None:
    """The job that sends the result away, if that was asked for."""
    if source.request.store_to is None:
        return None
    request = store_request(source, manifest.files, source.request.store_to)
    return NewJob(
        id=uuid4(),
        owner=source.owner,
        request=request,
        request_digest=request_digest(request),
        queue=STORE_QUEUE,
        priority=STORE_PRIORITY,
        deadline_s=patience.total_seconds(),
    )


def wait_before_storing_again(job: Job) -> timedelta:
    """A quarter of the time that has passed: soon at first, every ten minutes after an hour.

    Both times are the database's, so no count of tries is needed, which a lost worker would spoil.
    """
    age_s = ((job.started_at or job.created_at) - job.created_at).total_seconds()
    return timedelta(seconds=min(LONGEST_WAIT_S, max(SHORTEST_WAIT_S, age_s / 4)))
