"""Finds what was lost and forgotten. Runs in any process, as often as one may like."""

import logging
import time
from dataclasses import dataclass, field
from datetime import timedelta

from service.errors import ConflictError, JobNotFoundError, UnavailableError
from service.jobs.job import Job
from service.jobs.ports import BlobStore, Doorbell, JobStore, UploadStore

log = logging.getLogger(__name__)

# Listing all objects takes time and, in S3, money.
SWEEP_EVERY = timedelta(minutes=10)
# Longer than any upload takes.
STALE_AFTER = timedelta(hours=24)
# Where objects lie that belong to a job, an upload or a model.
ROOTS = ("jobs/", "uploads/", "checkpoints/", "models/")


@dataclass
class Reaper:
    """Takes back lost leases, rings again, and removes what nobody needs any more."""

    jobs: JobStore
    uploads: UploadStore
    blobs: BlobStore
    doorbell: Doorbell
    every: timedelta
    max_attempts: int
    retention: timedelta
    _next: float = field(default=0.0, init=False)

    def tick(self) -> None:
        """Do what is due; call it from a loop. An unreachable store is a matter for next time."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self.every.total_seconds()
        try:
            if self.jobs.take_turn("reap", self.every * 0.9):
                self.reap()
            if self.jobs.take_turn("sweep", SWEEP_EVERY):
                self.sweep()
        except UnavailableError as error:
            log.warning("reaper: %s", error.slug)

    def reap(self) -> None:
        """Take back lost leases, end late jobs, and ring for those that wait unheard."""
        for job in self.jobs.reap(self.max_attempts):
            self.doorbell.ring(job.id, job.queue)

    def sweep(self) -> None:
        """Remove old jobs, unused uploads and the objects of lost attempts."""
        for job in self.jobs.forgotten(self.retention):
            self._forget(job)
        for upload in self.uploads.expired():
            self.blobs.delete([upload.key])
            self.uploads.delete(upload.id)
        self.remove_orphans()
        self.blobs.delete_stale_parts(STALE_AFTER)

    def _forget(self, job: Job) -> None:
        try:
            self.jobs.delete(job.id)
        except (JobNotFoundError, ConflictError):
            return  # another process was faster, or somebody reads the results after all
        for root in ("jobs", "checkpoints"):
            self.blobs.delete(self.blobs.list(f"{root}/{job.id}/"))

    def remove_orphans(self) -> int:
        """Delete objects that no job, attempt or upload needs; how many there were.

        Objects are listed first and asked about afterwards: one that a running attempt has just
        written is then known to belong to it.
        """
        by_owner: dict[str, list[str]] = {}
        for key in [key for root in ROOTS for key in self.blobs.list(root)]:
            by_owner.setdefault(_owner(key), []).append(key)
        live = self.jobs.live_keys(list(by_owner))
        orphans = [key for owner, keys in by_owner.items() if owner not in live for key in keys]
        self.blobs.delete(orphans)
        return len(orphans)


def _owner(key: str) -> str:
    """The attempt, upload, training or model that an object is of; see `JobStore.live_keys`."""
    parts = key.split("/")
    return "/".join(parts[: {"jobs": 3, "models": 4}.get(parts[0], 2)]) + "/"
