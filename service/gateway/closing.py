"""The end of a job by its owner's wish: cancelled while it is not finished, or forgotten."""

from uuid import UUID

from service.gateway.desk import Desk
from service.jobs.job import Job


def cancel_job(desk: Desk, job_id: UUID, owner: str) -> Job:
    """Stop a job: a queued one ends at once, a running one within seconds.

    Raises:
        JobNotFoundError: If there is none, or it is another owner's.
    """
    with desk.audit.action(owner, "cancel", job=str(job_id)):
        desk.stores.jobs.job(job_id, owner)
        return desk.stores.jobs.cancel(job_id)


def delete_job(desk: Desk, job_id: UUID, owner: str) -> None:
    """Forget a finished job with its files.

    Raises:
        JobNotFoundError: If there is none, or it is another owner's.
        ConflictError: If it is not finished, or an unfinished job reads its results.
    """
    with desk.audit.action(owner, "delete", job=str(job_id)):
        desk.stores.jobs.job(job_id, owner)
        _remove_objects(desk, desk.stores.jobs.delete(job_id))


def _remove_objects(desk: Desk, gone: Job) -> None:
    """Remove the job's results and those of its inputs that nothing else needs.

    Should the process die in between, the reaper finds them.
    """
    folders = {
        f"{file.key.rpartition('/')[0]}/": file.key
        for file in gone.request.inputs.values()
        if file.key is not None and file.key.startswith("uploads/")
    }
    needed = desk.stores.jobs.live_keys(list(folders))
    unneeded = [key for folder, key in folders.items() if folder not in needed]
    own = [
        key
        for root in ("jobs", "checkpoints")
        for key in desk.stores.blobs.list(f"{root}/{gone.id}/")
    ]
    desk.stores.blobs.delete([*own, *unneeded])
