"""Many registrations to one fixed image, ordered as one: a job for each subject."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from service.errors import QueueFullError, QuotaExceededError
from service.jobs.digest import request_digest
from service.jobs.intake import RETRY_AFTER_S, Intake
from service.jobs.job import Job, NewJob, Queue, Request, State
from service.paths import SUBJECT_ID


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Subject(_Frozen):
    """A moving image of a cohort. The id is the caller's word for it."""

    id: str = Field(pattern=SUBJECT_ID)
    request: Request


class NewCohort(_Frozen):
    """What a face hands to the store."""

    owner: str
    subjects: list[Subject]
    options: dict[str, Any] = Field(default_factory=dict)
    queue: Queue = Queue.BATCH
    priority: int = Field(5, ge=0, le=9)
    deadline_s: float = Field(gt=0)
    idempotency_key: str | None = Field(None, min_length=1, max_length=255)

    @property
    def digest(self) -> str:
        """Of everything that was asked, but not of how it is queued."""
        asked = [[one.id, request_digest(one.request)] for one in self.subjects]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()

    def job(self, subject: Subject) -> NewJob:
        """The job of one subject."""
        return NewJob(
            owner=self.owner,
            request=subject.request,
            request_digest=request_digest(subject.request),
            queue=self.queue,
            priority=self.priority,
            deadline_s=self.deadline_s,
        )


class Cohort(_Frozen):
    """A cohort as it was when read; `subjects` is how many it was ordered with."""

    id: UUID
    owner: str
    subjects: int
    options: dict[str, Any]
    created_at: AwareDatetime
    counts: dict[State, int] = Field(
        default_factory=dict, description="Jobs by state; less than `subjects` once some are gone."
    )

    @property
    def has_ended(self) -> bool:
        """Whether no job waits or runs."""
        return all(state.is_terminal for state in self.counts)


class Member(_Frozen):
    """A subject with its job."""

    subject: str
    job: Job


class CohortPage(_Frozen):
    """A piece of a list; `cursor` continues it."""

    cohorts: list[Cohort]
    cursor: str | None = None


class CohortStore(Protocol):
    """Cohorts by owner. A job may also be looked at, cancelled and deleted alone."""

    def add(self, new: NewCohort) -> tuple[Cohort, list[Job], bool]:
        """Store a cohort with a job for each subject, all or nothing.

        The flag says that the idempotency key replayed an old one, which gives no jobs.

        Raises:
            IdempotencyKeyReusedError: If the owner used the key for another cohort.
        """
        ...

    def replay(self, owner: str, key: str, digest: str) -> Cohort | None:
        """The cohort that this idempotency key made before; None if it is new.

        Raises:
            IdempotencyKeyReusedError: If the owner used the key for another cohort.
        """
        ...

    def cohort(self, cohort_id: UUID, owner: str) -> Cohort:
        """One cohort.

        Raises:
            CohortNotFoundError: If there is none, or it is another owner's.
        """
        ...

    def members(self, cohort_id: UUID, owner: str) -> list[Member]:
        """Its subjects in the order in which they were given; raises as `cohort`."""
        ...

    def page(self, owner: str, *, limit: int = 50, cursor: str | None = None) -> CohortPage:
        """Newest first; cohorts whose jobs are all forgotten are left out."""
        ...

    def cancel(self, cohort_id: UUID, owner: str) -> Cohort:
        """Cancel every queued job and ask the running ones to stop; raises as `cohort`."""
        ...

    def forget(self, cohort_id: UUID, owner: str) -> None:
        """Forget that these jobs are a cohort; they themselves stay. Raises as `cohort`."""
        ...


@dataclass(frozen=True)
class CohortIntake:
    """Checks limits, stores the cohort, and only then rings for its jobs."""

    cohorts: CohortStore
    intake: Intake

    def submit(self, new: NewCohort) -> tuple[Cohort, bool]:
        """Take a cohort in; the flag says that the idempotency key replayed an old one.

        Raises:
            QueueFullError: If too many jobs would wait.
            QuotaExceededError: If the owner would have too many unfinished jobs.
            IdempotencyKeyReusedError: If the owner used the key for another cohort.
        """
        if new.idempotency_key is not None:
            old = self.cohorts.replay(new.owner, new.idempotency_key, new.digest)
            if old is not None:
                return old, True
        self._check_limits(new.owner, len(new.subjects))
        cohort, jobs, is_replayed = self.cohorts.add(new)
        for job in jobs:
            self.intake.doorbell.ring(job.id, job.queue)
        return cohort, is_replayed

    def _check_limits(self, owner: str, more: int) -> None:
        counts, most = self.intake.jobs.counts, self.intake.max_jobs_per_key
        waiting = counts(states=[State.QUEUED])
        if sum(waiting.values()) + more > self.intake.max_queued_jobs:
            raise QueueFullError(retry_after_s=RETRY_AFTER_S)
        unfinished = sum(counts(owner, [State.QUEUED, State.RUNNING]).values())
        if unfinished + more > most:
            raise QuotaExceededError(
                f"This key may have {most} unfinished jobs and has {unfinished}; a cohort of "
                f"{more} is too many now. Wait, or send fewer subjects.",
                retry_after_s=RETRY_AFTER_S,
            )


def seconds_left(members: Sequence[Member], workers: int | None = None) -> float | None:
    """A guess, until the last job has ended: as long as those that ended took, side by side."""
    times = [
        (member.job.finished_at - member.job.started_at).total_seconds()
        for member in members
        if member.job.started_at is not None and member.job.finished_at is not None
    ]
    counts = by_state(members)
    left = counts.get(State.QUEUED, 0) + counts.get(State.RUNNING, 0)
    if not left:
        return 0.0
    if not times:
        return None
    at_once = max(1, workers or counts.get(State.RUNNING, 0))
    return round(sum(times) / len(times) * left / at_once, 1)


def by_state(members: Sequence[Member]) -> Mapping[State, int]:
    """How many jobs are in each state."""
    found: dict[State, int] = {}
    for member in members:
        found[member.job.state] = found.get(member.job.state, 0) + 1
    return found
