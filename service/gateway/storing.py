"""From a finished job to one that sends its DICOM objects to an archive; for both faces."""

from uuid import UUID

from service.errors import NothingToStoreError
from service.gateway.desk import Desk
from service.gateway.handing_out import manifest_of
from service.gateway.recording import submission
from service.gateway.taking_in import require_archive
from service.jobs.job import Job
from service.jobs.storing import STORE_PRIORITY, STORE_QUEUE, store_request


def _job_of(stored: tuple[Job, bool]) -> Job:
    return stored[0]


@submission("store", _job_of)
def store_result(
    desk: Desk, owner: str, job_id: UUID, pacs: str, key: str | None
) -> tuple[Job, bool]:
    """Make the job; the flag says that the idempotency key replayed an old one.

    Raises:
        JobNotFoundError: If there is no such job of the owner's.
        JobNotFinishedError, JobHasNoResultError: If it has no result.
        NothingToStoreError: If its result is not DICOM.
        PacsUnknownError: If there is no such archive for this caller.
        QueueFullError, QuotaExceededError, IdempotencyKeyReusedError: From the intake.
    """
    require_archive(desk, owner, pacs, "/pacs")
    source = desk.stores.jobs.job(job_id, owner)
    request = store_request(source, manifest_of(source).files, pacs)
    if not request.inputs:
        raise NothingToStoreError
    return desk.intake.submit(
        request,
        owner,
        queue=STORE_QUEUE,
        priority=STORE_PRIORITY,
        deadline_s=desk.settings.pacs_store_h * 3600,
        idempotency_key=key,
    )
