"""A job: what was asked, by whom, and how far it has come."""

import json
from enum import StrEnum
from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator

from service.jobs.model import ModelId, NewModel, PublishedModel

# Written with each heartbeat, and kept with each event.
LARGEST_DETAIL_BYTES = 2048
UID = r"^[0-9][0-9.]{0,63}$"


class State(StrEnum):
    QUEUED = "queued"  # waits for a worker
    RUNNING = "running"  # a worker holds its lease
    SUCCEEDED = "succeeded"  # the manifest names its results
    FAILED = "failed"  # `problem` says why
    CANCELLED = "cancelled"  # the caller did not want it any more
    EXPIRED = "expired"  # the deadline passed first

    @property
    def is_terminal(self) -> bool:
        """Whether the state never changes again."""
        return self not in (State.QUEUED, State.RUNNING)


class Kind(StrEnum):
    REGISTER = "register"
    WARP = "warp"
    TRAIN = "train"
    STORE = "store"  # a finished job's DICOM objects go to an archive


class Queue(StrEnum):
    INTERACTIVE = "interactive"
    BATCH = "batch"
    TRAIN = "train"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PacsSeries(_Frozen):
    """A series in a configured archive. The UIDs are the patient's: shown and logged nowhere."""

    pacs: str
    study: str = Field(pattern=UID, repr=False)
    series: str = Field(pattern=UID, repr=False)


class InputFile(_Frozen):
    """One file of a job, where the worker finds it.

    `url` is for objects on allowed hosts, `pacs` for series in an archive.
    """

    key: str | None = None
    url: str | None = None
    pacs: PacsSeries | None = None
    sha256: str | None = None
    bytes: int | None = None


class Request(_Frozen):
    """What the caller asked for, as stored with the job.

    `inputs` maps roles to files: fixed, moving, fixed_labels, moving_labels, fixed_mask,
    moving_mask, fixed_points, moving_points, initial_transform; for a warp also ddf, inverse_ddf.
    A training has `archive`, `listing` or `data/PATH`; see `service.jobs.datasets`.
    """

    kind: Kind
    inputs: dict[str, InputFile]
    options: dict[str, Any] = Field(default_factory=dict)
    publishes: ModelId | None = Field(
        None, description="The version that the store keeps for the model this job makes."
    )
    store_to: str | None = Field(None, description="The archive that gets the DICOM objects.")


class Progress(_Frozen):
    """How far a running job is; `detail` holds figures of the work, such as epoch and losses."""

    stage: str = "queued"
    fraction: float = Field(0.0, ge=0, le=1)
    detail: dict[str, Any] = Field(default_factory=dict)

    @field_validator("detail")
    @classmethod
    def _small(cls, detail: dict[str, Any]) -> dict[str, Any]:
        if len(json.dumps(detail)) > LARGEST_DETAIL_BYTES:
            raise ValueError(f"A progress detail has at most {LARGEST_DETAIL_BYTES} bytes.")
        return detail

    def told(self) -> dict[str, Any]:
        """As an event's data; without a detail where there is none."""
        return self.model_dump(exclude=set() if self.detail else {"detail"})

    def is_news(self, before: "Progress") -> bool:
        """Whether it is worth an event: another stage, or another epoch."""
        epochs = self.detail.get("epoch"), before.detail.get("epoch")
        return self.stage != before.stage or (bool(self.detail) and epochs[0] != epochs[1])


class ResultFile(_Frozen):
    """One result, under a write-once key."""

    key: str
    bytes: int
    sha256: str
    media_type: str


class Manifest(_Frozen):
    """What a job left behind; the only pointer to results that readers follow."""

    files: dict[str, ResultFile]
    summary: dict[str, Any] = Field(default_factory=dict)
    model: PublishedModel | None = None
    store_job: UUID | None = Field(None, description="The job that sends it to an archive.")


class Job(_Frozen):
    """A row of the job table. Changes are made by the store; this is how it was when read."""

    id: UUID
    owner: str
    request: Request
    request_digest: str
    state: State
    queue: Queue = Queue.INTERACTIVE
    priority: int = Field(5, ge=0, le=9, description="0 is first.")
    progress: Progress = Progress()
    attempt: int = 0
    fence: int = 0
    worker: str | None = None
    cancel_requested: bool = False
    manifest: Manifest | None = None
    problem: dict[str, Any] | None = None
    created_at: AwareDatetime
    not_before: AwareDatetime
    deadline_at: AwareDatetime
    started_at: AwareDatetime | None = None
    finished_at: AwareDatetime | None = None
    lease_until: AwareDatetime | None = None


class NewJob(_Frozen):
    """What a face hands to the store; the store adds identity, times and state."""

    owner: str
    request: Request
    request_digest: str
    queue: Queue = Queue.INTERACTIVE
    priority: int = Field(5, ge=0, le=9)
    deadline_s: float = Field(gt=0)
    idempotency_key: str | None = Field(None, min_length=1, max_length=255)
    publishes: NewModel | None = None
    id: UUID | None = Field(None, description="Chosen by the caller; by default a new one.")

    def asked(self, number: int | None) -> Request:
        """The request as it is stored: with the number of the version, if one was reserved."""
        if self.publishes is None:
            return self.request
        kept = ModelId(name=self.publishes.name, version=str(number))
        return self.request.model_copy(update={"publishes": kept})


class Event(_Frozen):
    """Something that happened to a job; `seq` counts from 1 without gaps."""

    job_id: UUID
    seq: int
    type: str  # queued, started, progress, requeued, succeeded, failed, cancelled, expired
    at: AwareDatetime
    data: dict[str, Any] = Field(default_factory=dict)


class Claim(_Frozen):
    """The right to run a job until the lease ends; the fence proves it at each write."""

    job: Job
    fence: int
    worker: str


class Order(StrEnum):
    """What a heartbeat tells the worker."""

    GO_ON = "go-on"
    CANCEL = "cancel"
    EXPIRE = "expire"
    FENCED_OUT = "fenced-out"


class Place(_Frozen):
    """Where a queued job stands. Positions count from 1; time left is a guess from recent jobs."""

    position: int
    seconds_left: float | None = None


class Page(_Frozen):
    """A piece of a list; `cursor` continues it."""

    jobs: list[Job]
    cursor: str | None = None


class Upload(_Frozen):
    """A file on its way in: bytes arrive in order, `received` of `bytes` so far."""

    id: UUID
    owner: str
    key: str
    bytes: int
    received: int = 0
    sha256: str | None = None
    created_at: AwareDatetime
    expires_at: AwareDatetime

    @property
    def is_complete(self) -> bool:
        return self.received == self.bytes and self.sha256 is not None
