"""What the API answers, as the client hands it out. New fields of a newer server are ignored."""

from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

ENDED = frozenset({"succeeded", "failed", "cancelled", "expired"})


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Place(_View):
    """Where a queued job stands; 1 is next."""

    position: int
    seconds_left: float | None = None


class Job(_View):
    """A job as it was when asked for."""

    id: UUID
    kind: str
    state: str
    stage: str
    fraction: float
    detail: dict[str, Any] | None = None
    place: Place | None = None
    seconds_left: float | None = None
    queue: str = "interactive"
    priority: int = 5
    attempt: int = 0
    cancel_requested: bool = False
    created_at: AwareDatetime
    started_at: AwareDatetime | None = None
    finished_at: AwareDatetime | None = None
    deadline_at: AwareDatetime | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    problem: dict[str, Any] | None = None
    summary: dict[str, Any] | None = None
    links: dict[str, str] = Field(default_factory=dict)

    @property
    def has_ended(self) -> bool:
        """Whether the state never changes again."""
        return self.state in ENDED


class JobList(_View):
    """A page of jobs, newest first; `cursor` continues it."""

    jobs: list[Job]
    cursor: str | None = None


class Event(_View):
    """Something that happened to a job; `seq` counts from 1."""

    seq: int
    type: str
    at: AwareDatetime
    data: dict[str, Any] = Field(default_factory=dict)


class ResultFile(_View):
    """One result and where it can be fetched for a while."""

    url: str
    bytes: int
    sha256: str
    media_type: str


class Results(_View):
    """What a job left behind."""

    job_id: UUID
    files: dict[str, ResultFile]
    expires_at: AwareDatetime
    summary: dict[str, Any] = Field(default_factory=dict)


class Upload(_View):
    """A file on its way in: `received` of `bytes` are safe."""

    id: UUID
    bytes: int
    received: int
    complete: bool
    chunk_bytes: int = 8 * 2**20


class Dataset(_View):
    """Data that trainings may name; sizes are unknown for files that lie elsewhere."""

    id: UUID
    name: str
    sha256: str | None = None
    bytes: int | None = None
    files: int | None = None
    created_at: AwareDatetime


class DatasetList(_View):
    """A page of data sets, newest first; `cursor` continues it."""

    datasets: list[Dataset]
    cursor: str | None = None


class CohortSubject(_View):
    """A subject: its job, and its figures once there are some."""

    job_id: UUID
    figures: dict[str, Any]


class Cohort(_View):
    """A cohort as it was when asked for; lists leave the table out."""

    id: UUID
    subjects: int
    counts: dict[str, int]
    ended: bool
    fraction: float
    seconds_left: float | None = None
    created_at: AwareDatetime
    table: list[CohortSubject] | None = None
    links: dict[str, str] = Field(default_factory=dict)


class CohortList(_View):
    """A page of cohorts, newest first; `cursor` continues it."""

    cohorts: list[Cohort]
    cursor: str | None = None


class Limits(_View):
    """What the server accepts."""

    model_config = ConfigDict(frozen=True, extra="allow")

    max_body_bytes: int
    max_upload_bytes: int
    upload_chunk_bytes: int = 8 * 2**20
