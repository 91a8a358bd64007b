"""What jobs need from the outside world. Each port has several adapters and one test suite."""

from collections.abc import Iterator, Sequence
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
from service.jobs.model import RegisteredModel, Shelf


class JobStore(Protocol):
    """The truth about jobs. Times are the database's clock, never a worker's."""

    def add(self, job: NewJob) -> tuple[Job, bool]:
        """Store a job and its event; the flag says that the idempotency key replayed an old one.

        A job that makes a model gets the next free version of its name with it, in
        `request.publishes`; no other job ever gets the same.

        Raises:
            IdempotencyKeyReusedError: If the owner used the key for another request.
        """
        ...

    def replay(self, owner: str, key: str, digest: str) -> Job | None:
        """The job that this idempotency key made before; None if it is new.

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

    def counts(self, owner: str | None = None, states: Sequence[State] = ()) -> dict[State, int]:
        """Jobs in each state (of these, if some are named); states without a job are left out."""
        ...

    def events(self, job_id: UUID, after: int = 0) -> list[Event]:
        """What happened to the job after event number `after`, in order."""
        ...

    def claim(self, queues: Sequence[Queue], worker: str, lease: timedelta) -> Claim | None:
        """Take the first job that waits, by queue as ordered here, priority, then age.

        Raises its attempt and fence. A job whose lease ran out waits again once `reap` has seen
        it, which backs off and stops jobs that kill their workers.
        """
        ...

    def beat(self, claim: Claim, progress: Progress, lease: timedelta) -> Order:
        """Prolong the lease, store progress (an event when the stage changes), fetch the order."""
        ...

    def succeed(self, claim: Claim, manifest: Manifest, then: NewJob | None = None) -> bool:
        """End the job well. False: fenced out, nothing was written.

        A model in the manifest becomes visible at once, and the alias `candidate` moves to it.
        The job that is to follow is added with it, or neither is.

        Raises:
            ConflictError: If the model is not the version that was reserved for the job.
        """
        ...

    def end(self, claim: Claim, state: State, problem: dict[str, object] | None) -> bool:
        """End the job as failed, cancelled or expired. False: fenced out."""
        ...

    def retry(self, claim: Claim, delay: timedelta, reason: str, *, counts: bool = True) -> bool:
        """Put the job back in its queue for later. False: fenced out.

        Without `counts` the attempt is taken back: a worker that stops is not the job's fault.
        """
        ...

    def cancel(self, job_id: UUID) -> Job:
        """Cancel a queued job at once, or ask a running one to stop; a finished one stays.

        Raises:
            JobNotFoundError: If there is none.
        """
        ...

    def delete(self, job_id: UUID) -> Job:
        """Forget a finished job; returns what it was, so that its objects can be removed.

        Raises:
            ConflictError: If it is not finished, or an unfinished job reads its results.
        """
        ...

    def reap(self, max_attempts: int) -> list[Job]:
        """Requeue jobs of dead workers with back-off, fail poison jobs, expire late ones.

        Returns jobs that wait and were not rung for lately; each is returned ever more seldom.
        """
        ...

    def forgotten(self, retention: timedelta, limit: int = 100) -> list[Job]:
        """Finished jobs older than the retention whose results no unfinished job reads."""
        ...

    def live_keys(self, prefixes: Sequence[str]) -> set[str]:
        """Which of these prefixes something still needs.

        `uploads/ID/`: an upload that exists, became a data set or that an unfinished job reads.
        `jobs/ID/FENCE/`: the attempt that runs or succeeded.
        `checkpoints/ID/`: a job that may go on, or failed.
        `models/NAME/VERSION/ID.FENCE/`: the attempt that runs, or whose model was published.
        """
        ...

    def take_turn(self, chore: str, every: timedelta) -> bool:
        """Whether this process shall do the chore now; of all processes one is told so."""
        ...

    def ping(self) -> None:
        """Raises StoreUnavailableError if the database does not answer."""
        ...


class ModelRegistry(Protocol):
    """The models that jobs have made. `JobStore.succeed` publishes; after that aliases move.

    A version never changes, and the number of a deleted one is not given again.
    """

    def list(self) -> list[RegisteredModel]:
        """Every version, by name, oldest first."""
        ...

    def aliases(self) -> dict[str, dict[str, str]]:
        """Where aliases point, by name: version by alias. Shipped models have theirs here too."""
        ...

    def shelf(self, name: str) -> Shelf:
        """What there is under a name; an empty shelf if nothing. Cheap: asked before each job."""
        ...

    def model(self, name: str, version: str) -> RegisteredModel:
        """One version.

        Raises:
            ModelNotFoundError: If the registry has no such version.
        """
        ...

    def set_alias(self, name: str, alias: str, version: str, *, instead_of: str | None) -> None:
        """Point an alias to a version, registered or shipped; where it pointed is remembered.

        Args:
            name: The model.
            alias: Such as `production`.
            version: Where it is to point; the caller knows that it exists.
            instead_of: Where the caller saw it point; None if the registry knew no such alias.

        Raises:
            ConflictError: If somebody has moved the alias in the meantime.
        """
        ...

    def roll_back(self, name: str, alias: str, *, away_from: str | None = None) -> str | None:
        """Undo the alias's last move; gives where it points now, None if nowhere any more.

        Where it does not point to `away_from`, if that is given, nothing changes: so a request
        whose answer was lost can be repeated.

        Raises:
            NothingToRollBackError: If it was never moved, or every move is undone.
        """
        ...

    def delete(self, name: str, version: str) -> RegisteredModel:
        """Forget a version; returns what it was, so that its objects can be removed.

        No alias comes back to it: moves to it count as undone.

        Raises:
            ModelNotFoundError: If the registry has no such version.
            ModelInUseError: If an alias points to it.
        """
        ...


class UploadStore(Protocol):
    """Files on their way in."""

    def open(self, owner: str, size: int, ttl: timedelta) -> Upload:
        """Announce a file of `size` bytes, to be stored under the upload's key."""
        ...

    def upload(self, upload_id: UUID, owner: str) -> Upload:
        """The upload as it is now.

        Raises:
            UploadNotFoundError: If there is none, it expired, or it is another owner's.
        """
        ...

    def advance(self, upload_id: UUID, received: int, sha256: str | None) -> Upload:
        """Note that `received` bytes have arrived, and the digest once all have.

        Raises:
            UploadNotFoundError: If there is none.
            UploadCompleteError: If it was complete before.
            ConflictError: If fewer bytes than before, or more than announced, have arrived.
        """
        ...

    def expired(self, limit: int = 100) -> list[Upload]:
        """Uploads past their time that no unfinished job reads."""
        ...

    def delete(self, upload_id: UUID) -> None:
        """Forget the upload; one that is gone does not matter."""
        ...


class BlobStore(Protocol):
    """Bytes under keys. Keys are made by us, opaque, and written once."""

    def put_file(self, key: str, source: Path) -> None:
        """Store a file whole; a crash leaves the whole object or none.

        Writing the same bytes again is fine: the answer to the first write may have been lost.

        Raises:
            StorageFullError: If there is no room.
            ConflictError: If the key holds other bytes already.
        """
        ...

    def take_file(self, key: str, source: Path) -> None:
        """Like `put_file`, without a copy where the store can do without one.

        Nobody may write to the file any more. Its own name stays, for the caller to remove.
        """
        ...

    def share_file(self, key: str, source: Path) -> bool:
        """Keep a file that is still being written to: what it holds now survives this process.

        More bytes may follow, those that are there must stay as they are. Whoever calls this
        flushes the file. False: this store cannot do it, and nothing was stored.
        """
        ...

    def put_bytes(self, key: str, data: bytes) -> None: ...

    def get_file(self, key: str, target: Path) -> None:
        """Copy the object to a file.

        Raises:
            ResultNotFoundError: If there is no such object (here and in the next two).
        """
        ...

    def get_bytes(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """The object's bytes [start, end), as far as it goes."""
        ...

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
        """A URL that reads the object without further credentials until it expires.

        `name` and `media_type` are what the browser shall make of it, where the store can say so.
        """
        ...

    def delete_stale_parts(self, older_than: timedelta) -> int:
        """Remove what killed writers left half written; how many there were."""
        ...


class Doorbell(Protocol):
    """Tells workers that there may be work. May lose every message: the reaper rings again."""

    def ring(self, job_id: UUID, queue: Queue) -> None:
        """Never waits for a broker and never raises."""
        ...

    def close(self) -> None:
        """Give rings that are under way a moment to leave."""
        ...
