"""Cohorts in memory: a fake for tests, under the same suite as the real store."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

from service.errors import CohortNotFoundError, IdempotencyKeyReusedError, JobNotFoundError
from service.jobs.cohorts import Cohort, CohortPage, Member, NewCohort, by_state
from service.jobs.job import Job
from service.jobs.ports import JobStore


@dataclass(frozen=True)
class _Entry:
    cohort: Cohort
    key: str | None
    digest: str
    jobs: list[tuple[str, UUID]]


class MemoryCohortStore:
    """`service.jobs.cohorts.CohortStore` in one process, beside a job store."""

    def __init__(self, jobs: JobStore, clock: Callable[[], float] = time.time) -> None:
        """Start empty.

        Args:
            jobs: Where the jobs are.
            clock: Seconds since 1970.
        """
        self._jobs = jobs
        self._clock = clock
        self._entries: list[_Entry] = []

    def add(self, new: NewCohort) -> tuple[Cohort, list[Job], bool]:
        key = new.idempotency_key
        if key is not None and (old := self.replay(new.owner, key, new.digest)):
            return old, [], True
        jobs = [self._jobs.add(new.job(subject))[0] for subject in new.subjects]
        made = Cohort(
            id=uuid4(),
            owner=new.owner,
            subjects=len(new.subjects),
            options=new.options,
            created_at=datetime.fromtimestamp(self._clock(), UTC),
        )
        named = [(subject.id, job.id) for subject, job in zip(new.subjects, jobs, strict=True)]
        self._entries.append(_Entry(made, key, new.digest, named))
        return self.cohort(made.id, new.owner), jobs, False

    def replay(self, owner: str, key: str, digest: str) -> Cohort | None:
        for entry in self._entries:
            if (entry.cohort.owner, entry.key) == (owner, key):
                if entry.digest != digest:
                    raise IdempotencyKeyReusedError
                return self._now(entry)
        return None

    def cohort(self, cohort_id: UUID, owner: str) -> Cohort:
        return self._now(self._entry(cohort_id, owner))

    def members(self, cohort_id: UUID, owner: str) -> list[Member]:
        return self._members(self._entry(cohort_id, owner))

    def page(self, owner: str, *, limit: int = 50, cursor: str | None = None) -> CohortPage:
        mine = [
            self._now(entry)
            for entry in reversed(self._entries)
            if entry.cohort.owner == owner and self._members(entry)
        ]
        start = 0 if cursor is None else int(cursor)
        more = str(start + limit) if len(mine) > start + limit else None
        return CohortPage(cohorts=mine[start : start + limit], cursor=more)

    def cancel(self, cohort_id: UUID, owner: str) -> Cohort:
        for member in self.members(cohort_id, owner):
            self._jobs.cancel(member.job.id)
        return self.cohort(cohort_id, owner)

    def forget(self, cohort_id: UUID, owner: str) -> None:
        self._entries.remove(self._entry(cohort_id, owner))

    def _entry(self, cohort_id: UUID, owner: str) -> _Entry:
        for entry in self._entries:
            if (entry.cohort.id, entry.cohort.owner) == (cohort_id, owner):
                return entry
        raise CohortNotFoundError

    def _members(self, entry: _Entry) -> list[Member]:
        found = []
        for subject, job_id in entry.jobs:
            try:
                found.append(Member(subject=subject, job=self._jobs.job(job_id)))
            except JobNotFoundError:
                continue
        return found

    def _now(self, entry: _Entry) -> Cohort:
        return entry.cohort.model_copy(update={"counts": dict(by_state(self._members(entry)))})
