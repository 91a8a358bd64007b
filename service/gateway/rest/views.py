"""What the REST API shows. Field descriptions are the API's reference."""

from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from service.jobs.job import Event, Job, Kind, Place, Queue, State, Upload

# Below this share done, the pace so far says little about the time left.
LEAST_FRACTION_TO_GUESS = 0.05


class View(BaseModel):
    model_config = ConfigDict(frozen=True)


class Problem(View):
    """An error, RFC 9457. `code` is stable; `detail` says what is wrong and what to do."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    retryable: bool = Field(description="Whether the same request may succeed later.")
    instance: str | None = Field(None, description="The request's id, to quote to the operator.")
    field: str | None = Field(None, description="The part of the request that is at fault.")
    errors: list[dict[str, Any]] | None = Field(None, description="Each fault, when several.")


class PlaceView(View):
    """Where a queued job stands."""

    position: int = Field(description="1 is next.")
    seconds_left: float | None = Field(description="A guess, from recent jobs, until it starts.")


class JobView(View):
    """A job as it is now."""

    id: UUID
    kind: Kind
    state: State
    stage: str = Field(description="What the worker is doing: read, initialise, predict, ...")
    fraction: float = Field(description="Share of the work that is done, 0 to 1.")
    detail: dict[str, Any] | None = Field(
        None, description="Figures of the work: of a training epoch, step, losses, seconds_left."
    )
    place: PlaceView | None = Field(None, description="While it is queued.")
    seconds_left: float | None = Field(None, description="A guess, until it ends.")
    queue: Queue
    priority: int
    attempt: int = Field(description="How often a worker has begun; more than 1 after a crash.")
    cancel_requested: bool
    created_at: AwareDatetime
    started_at: AwareDatetime | None
    finished_at: AwareDatetime | None
    deadline_at: AwareDatetime
    options: dict[str, Any]
    problem: dict[str, Any] | None = Field(
        None, description="Why there is no result: the same body as an error of the API."
    )
    summary: dict[str, Any] | None = Field(
        None, description="Metrics and verdict of a finished job; all of it is in report.json."
    )
    links: dict[str, str]

    @classmethod
    def of(cls, job: Job, place: Place | None = None) -> "JobView":
        """The view of a job and, while it is queued, of its place."""
        return cls(
            id=job.id,
            kind=job.request.kind,
            state=job.state,
            stage=job.state.value if job.state.is_terminal else job.progress.stage,
            fraction=1.0 if job.state is State.SUCCEEDED else job.progress.fraction,
            detail=job.progress.detail or None,
            place=PlaceView(position=place.position, seconds_left=place.seconds_left)
            if place is not None
            else None,
            seconds_left=place.seconds_left if place is not None else _seconds_left(job),
            queue=job.queue,
            priority=job.priority,
            attempt=job.attempt,
            cancel_requested=job.cancel_requested,
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
            deadline_at=job.deadline_at,
            options=job.request.options,
            problem=job.problem,
            summary=job.manifest.summary if job.manifest is not None else None,
            links=_links(job),
        )


def _links(job: Job) -> dict[str, str]:
    here = f"/v1/jobs/{job.id}"
    links = {"self": here, "events": f"{here}/events", "results": f"{here}/results"}
    if job.manifest is not None and job.manifest.store_job is not None:
        links["store"] = f"/v1/jobs/{job.manifest.store_job}"
    return links


def _seconds_left(job: Job) -> float | None:
    """A running job's remaining time: as the work says, or if it goes on at its pace so far."""
    told = job.progress.detail.get("seconds_left")
    if job.state is State.RUNNING and isinstance(told, int | float):
        return round(float(told), 1)
    done = job.progress.fraction
    if job.state is not State.RUNNING or job.started_at is None or done < LEAST_FRACTION_TO_GUESS:
        return None
    spent_s = (datetime.now(UTC) - job.started_at).total_seconds()
    return round(max(0.0, spent_s * (1 - done) / done), 1)


class JobList(View):
    """A page of jobs, newest first."""

    jobs: list[JobView]
    cursor: str | None = Field(description="Send it back to get the next page; null on the last.")


class EventView(View):
    """Something that happened to a job."""

    seq: int = Field(description="Counts from 1 without gaps; the id of the server-sent event.")
    type: str
    at: AwareDatetime
    data: dict[str, Any]

    @classmethod
    def of(cls, event: Event) -> "EventView":
        return cls(seq=event.seq, type=event.type, at=event.at, data=event.data)


class EventList(View):
    """All events of a job so far."""

    events: list[EventView]


class ResultFileView(View):
    """One result file and where to fetch it."""

    url: str = Field(description="Needs no key; works until `expires_at`. Do not log or share it.")
    bytes: int
    sha256: str
    media_type: str


class ResultsView(View):
    """What a job left behind."""

    job_id: UUID
    files: dict[str, ResultFileView]
    expires_at: AwareDatetime = Field(description="When the URLs end; ask again for new ones.")
    summary: dict[str, Any] = Field(description="Metrics and verdict, as in report.json.")


class UploadOrder(BaseModel):
    """The announcement of a file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bytes: int = Field(ge=1, description="The file's size.")
    sha256: str | None = Field(
        None,
        pattern=r"^[0-9a-fA-F]{64}$",
        description="Of the whole file; when given, the upload completes only if it fits.",
    )


class UploadView(View):
    """A file on its way in."""

    id: UUID
    bytes: int
    received: int = Field(description="Bytes that are safe; go on from here.")
    complete: bool
    sha256: str | None = Field(description="Of the whole file, once it is complete.")
    chunk_bytes: int = Field(description="A good size for one request.")
    expires_at: AwareDatetime

    @classmethod
    def of(cls, upload: Upload, chunk_bytes: int) -> "UploadView":
        return cls(
            id=upload.id,
            bytes=upload.bytes,
            received=upload.received,
            complete=upload.is_complete,
            sha256=upload.sha256,
            chunk_bytes=chunk_bytes,
            expires_at=upload.expires_at,
        )


class LimitsView(View):
    """What this service accepts."""

    max_body_bytes: int = Field(description="Of one multipart request.")
    max_upload_bytes: int
    upload_chunk_bytes: int
    max_voxels: int
    max_axis: int
    requests_per_minute: int
    max_unfinished_jobs: int = Field(description="Of one key.")
    max_queued_jobs: int = Field(description="Of all keys together.")
    job_deadline_s: float = Field(description="When the order names none.")
    retention_h: float = Field(description="How long a finished job and its files are kept.")
    upload_ttl_h: float
    url_ttl_s: int
    training: bool = Field(description="Whether `POST /train` is offered.")
    max_dataset_bytes: int = Field(description="Of a data set, once unpacked.")
    max_dataset_files: int
    train_max_epochs: int
    train_max_batch: int
    train_max_hours: float
    train_memory_bytes: int
    longest_wait_s: int = Field(description="Of `Prefer: wait=`.")
    formats: str


class Health(View):
    """One process, or one thing that it needs."""

    status: Literal["ok", "unavailable"]
    checks: dict[str, Literal["ok", "unavailable"]] = Field(default_factory=dict)
