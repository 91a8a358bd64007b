"""What a job left behind, and where callers fetch it."""

from datetime import timedelta

from service.errors import JobHasNoResultError, JobNotFinishedError, ResultNotFoundError
from service.gateway.desk import Desk
from service.jobs.job import Job, Manifest, ResultFile


def manifest_of(job: Job) -> Manifest:
    """What the job left behind.

    Raises:
        JobNotFinishedError: If it still waits or runs.
        JobHasNoResultError: If it ended without a result.
    """
    if job.manifest is not None:
        return job.manifest
    if not job.state.is_terminal:
        raise JobNotFinishedError(f"The job is {job.state}; ask again later.", retry_after_s=1)
    raise JobHasNoResultError(f"The job {job.state} and has no result; its `problem` says why.")


def result_of(job: Job, name: str) -> ResultFile:
    """One of the files that the job left behind.

    Raises:
        JobNotFinishedError, JobHasNoResultError: If it left none.
        ResultNotFoundError: If there is none of this name.
    """
    files = manifest_of(job).files
    if name not in files:
        raise ResultNotFoundError(f"This job's results are {', '.join(sorted(files))}.")
    return files[name]


def signed(desk: Desk, name: str, file: ResultFile) -> str:
    """An address that needs no key, for a while."""
    ttl = timedelta(seconds=desk.settings.url_ttl_s)
    return desk.stores.blobs.signed_url(file.key, ttl, name=name, media_type=file.media_type)
