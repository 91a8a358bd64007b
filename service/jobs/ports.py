"""What jobs need from the outside world. Each port has several adapters and one test suite."""

from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Protocol
from uuid import UUID

from service.jobs.job import (
    Claim,
    Event,
    Job,
    Manifest,
    NewJob,
    Order,
    Page,
    Place,
    Progress,
    Queue,
    State,
    Upload,
)


class JobStore(Protocol):
    """The truth about jobs. Times are the database's clock, never a worker's."""

    def add(self, job: NewJob) -> tuple[Job, bool]:
        """Store a job and its event; the flag says that the idempotency key replayed an old one.

        Raises:
            IdempotencyKeyReusedError: If the owner used the key for another request.
        """
        ...

    def job(self, job_id: UUID, owner: str | None = None) -> Job:
        """The job as it is now; of this owner, if one is named.

        Raises:
            JobNotFoundError: If there is none, or it is another owner's.
        """
        ...

    def page(
        self,
        owner: str | None,
        *,
        states: Sequence[State] = (),
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Newest first."""
        ...

    def place(self, job_id: UUID) -> Place | None:
        """Where a queued job stands; None once it runs."""
        ...

    def counts(self, owner: str | None = None) -> dict[State, int]: ...

    def events(self, job_id: UUID, after: int = 0) -> list[Event]: ...

    def claim(self, queues: Sequence[Queue], worker: str, lease: timedelta) -> Claim | None:
        """Take the first job that waits or whose lease ran out; raises its attempt and fence."""
        ...

    def beat(self, claim: Claim, progress: Progress, lease: timedelta) -> Order:
        """Prolong the lease, store progress (an event when the stage changes), fetch the order."""
        ...

    def succeed(self, claim: Claim, manifest: Manifest) -> bool:
        """End the job well. False: fenced out, nothing was written."""
        ...

    def end(self, claim: Claim, state: State, problem: dict[str, object] | None) -> bool:
        """End the job as failed, cancelled or expired. False: fenced out."""
        ...

    def retry(self, claim: Claim, delay: timedelta, reason: str) -> bool:
        """Put the job back in its queue for later. False: fenced out."""
        ...

    def cancel(self, job_id: UUID) -> Job:
        """Cancel a queued job at once, or ask a running one to stop."""
        ...

    def delete(self, job_id: UUID) -> Job:
        """Forget a finished job; returns what it was, so that its objects can be removed.

        Raises:
            ConflictError: If it is not finished.
        """
        ...

    def reap(self, max_attempts: int) -> list[Job]:
        """Requeue jobs of dead workers with back-off, fail poison jobs, expire late ones.

        Returns the jobs that wait now and should be rung for.
        """
        ...

    def forgotten(self, retention: timedelta, limit: int = 100) -> list[Job]:
        """Finished jobs older than the retention."""
        ...

    def live_keys(self, prefixes: Sequence[str]) -> set[str]:
        """Which of these object key prefixes a job, manifest or upload still names."""
        ...

    def ping(self) -> None:
        """Raises StoreUnavailableError if the database does not answer."""
        ...


class UploadStore(Protocol):
    """Files on their way in."""

    def open(self, owner: str, size: int, ttl: timedelta) -> Upload: ...
    def upload(self, upload_id: UUID, owner: str) -> Upload: ...
    def advance(self, upload_id: UUID, received: int, sha256: str | None) -> Upload: ...
    def expired(self, limit: int = 100) -> list[Upload]: ...
    def delete(self, upload_id: UUID) -> None: ...


class BlobStore(Protocol):
    """Bytes under keys. Keys are made by us, opaque, and written once."""

    def put_file(self, key: str, source: Path) -> None:
        """Store a file whole; a crash leaves the whole object or none.

        Raises:
            StorageFullError: If there is no room.
        """
        ...

    def put_bytes(self, key: str, data: bytes) -> None: ...

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes]) -> None: ...

    def get_file(self, key: str, target: Path) -> None: ...

    def get_bytes(self, key: str, start: int = 0, end: int | None = None) -> bytes: ...

    def stream(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]: ...

    def size(self, key: str) -> int | None:
        """Bytes of the object; None if there is none."""
        ...

    def list(self, prefix: str) -> list[str]: ...

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; those that are gone already do not matter."""
        ...

    def signed_url(
        self, key: str, ttl: timedelta, *, name: str | None = None, media_type: str | None = None
    ) -> str:
        """A URL that reads the object without further credentials until it expires."""
        ...


class Doorbell(Protocol):
    """Tells workers that there may be work. May lose every message: the reaper rings again."""

    def ring(self, job_id: UUID, queue: Queue) -> None: ...
