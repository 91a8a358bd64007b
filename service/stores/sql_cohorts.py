"""The store of cohorts on SQLite and PostgreSQL."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from service.errors import CohortNotFoundError, IdempotencyKeyReusedError, JobCancelledError
from service.jobs.cohorts import Cohort, CohortPage, Member, NewCohort
from service.jobs.job import Job, State
from service.stores.database import Database
from service.stores.rows import job_of, milliseconds, moment
from service.stores.sql_changes import change, insert_job, key_sha256
from service.stores.sql_listing import cursor_after, number_before
from service.stores.tables import cohort, cohort_job, job

_SAME = ("id", "owner", "subjects", "options")
# A cohort whose jobs are all forgotten keeps its idempotency key so long, and then goes as well.
EMPTY_FOR = timedelta(days=1)


class SqlCohortStore:
    """`service.jobs.cohorts.CohortStore` on a database."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, new: NewCohort) -> tuple[Cohort, list[Job], bool]:
        try:
            with self._db.write() as tx:
                old = self._replay(tx, new.owner, new.idempotency_key, new.digest)
                if old is not None:
                    return old, [], True
                self._tidy(tx)
                jobs = self._insert(tx, cohort_id := uuid4(), new)
                return self._cohort(tx, cohort_id, new.owner), jobs, False
        except IntegrityError:
            # Another process stored the same idempotency key between our look and our insert.
            if new.idempotency_key is None:
                raise
            old = self.replay(new.owner, new.idempotency_key, new.digest)
            if old is None:
                raise
            return old, [], True

    def _insert(self, tx: sa.Connection, cohort_id: UUID, new: NewCohort) -> list[Job]:
        now, key = self._db.clock(), new.idempotency_key
        tx.execute(
            sa.insert(cohort).values(
                id=cohort_id,
                owner=new.owner,
                subjects=len(new.subjects),
                options=new.options,
                request_digest=new.digest,
                key_sha256=None if key is None else key_sha256(key),
                created_at=now,
            )
        )
        jobs = [insert_job(tx, new.job(subject), now) for subject in new.subjects]
        members = [
            {"cohort_id": cohort_id, "place": place, "subject": subject.id, "job_id": made.id}
            for place, (subject, made) in enumerate(zip(new.subjects, jobs, strict=True))
        ]
        tx.execute(sa.insert(cohort_job), members)
        return jobs

    def _tidy(self, tx: sa.Connection) -> None:
        before = self._db.clock() - milliseconds(EMPTY_FOR)
        tx.execute(sa.delete(cohort).where(cohort.c.created_at < before, ~_has_jobs()))

    def replay(self, owner: str, key: str, digest: str) -> Cohort | None:
        with self._db.read() as tx:
            return self._replay(tx, owner, key, digest)

    def _replay(self, tx: sa.Connection, owner: str, key: str | None, digest: str) -> Cohort | None:
        if key is None:
            return None
        mine = sa.select(cohort.c.id, cohort.c.request_digest)
        mine = mine.where(cohort.c.owner == owner, cohort.c.key_sha256 == key_sha256(key))
        row = tx.execute(mine).first()
        if row is None:
            return None
        if row.request_digest != digest:
            raise IdempotencyKeyReusedError
        return self._cohort(tx, row.id, owner)

    def cohort(self, cohort_id: UUID, owner: str) -> Cohort:
        with self._db.read() as tx:
            return self._cohort(tx, cohort_id, owner)

    def _cohort(self, tx: sa.Connection, cohort_id: UUID, owner: str) -> Cohort:
        return _cohorts_of(tx, [_row(tx, cohort_id, owner)])[0]

    def members(self, cohort_id: UUID, owner: str) -> list[Member]:
        with self._db.read() as tx:
            _row(tx, cohort_id, owner)
            wanted = sa.select(job, cohort_job.c.subject).join(
                cohort_job, cohort_job.c.job_id == job.c.id
            )
            wanted = wanted.where(cohort_job.c.cohort_id == cohort_id).order_by(cohort_job.c.place)
            rows = tx.execute(wanted).mappings().all()
            return [Member(subject=row["subject"], job=job_of(row)) for row in rows]

    def page(self, owner: str, *, limit: int = 50, cursor: str | None = None) -> CohortPage:
        wanted = sa.select(cohort).where(cohort.c.owner == owner, _has_jobs())
        if cursor is not None:
            wanted = wanted.where(cohort.c.number < number_before(cursor))
        wanted = wanted.order_by(cohort.c.number.desc()).limit(limit + 1)
        with self._db.read() as tx:
            rows = tx.execute(wanted).mappings().all()
            found = _cohorts_of(tx, rows[:limit])
        more = cursor_after(rows[limit - 1]["number"]) if len(rows) > limit else None
        return CohortPage(cohorts=found, cursor=more)

    def cancel(self, cohort_id: UUID, owner: str) -> Cohort:
        with self._db.write() as tx:
            _row(tx, cohort_id, owner)
            mine = job.c.id.in_(
                sa.select(cohort_job.c.job_id).where(cohort_job.c.cohort_id == cohort_id)
            )
            waiting = sa.select(job.c.id).where(mine, job.c.state == State.QUEUED)
            problem, now = JobCancelledError().problem(), self._db.clock()
            for job_id in tx.execute(waiting.with_for_update()).scalars().all():
                change(tx, job_id, now, State.CANCELLED, problem=problem)
            running = sa.update(job).where(mine, job.c.state == State.RUNNING)
            tx.execute(running.values(cancel_requested=True))
            return self._cohort(tx, cohort_id, owner)

    def forget(self, cohort_id: UUID, owner: str) -> None:
        with self._db.write() as tx:
            _row(tx, cohort_id, owner)
            tx.execute(sa.delete(cohort).where(cohort.c.id == cohort_id))


def _has_jobs() -> sa.Exists:
    return sa.exists().where(cohort_job.c.cohort_id == cohort.c.id)


def _row(tx: sa.Connection, cohort_id: UUID, owner: str) -> sa.RowMapping:
    wanted = sa.select(cohort).where(cohort.c.id == cohort_id, cohort.c.owner == owner)
    row = tx.execute(wanted).mappings().first()
    if row is None:
        raise CohortNotFoundError
    return row


def _cohorts_of(tx: sa.Connection, rows: Any) -> list[Cohort]:
    """Rows with the counts of their jobs."""
    counted = (
        sa.select(cohort_job.c.cohort_id, job.c.state, sa.func.count().label("count"))
        .join(job, job.c.id == cohort_job.c.job_id)
        .where(cohort_job.c.cohort_id.in_([row["id"] for row in rows]))
        .group_by(cohort_job.c.cohort_id, job.c.state)
    )
    counts: dict[UUID, dict[State, int]] = {row["id"]: {} for row in rows}
    for found in tx.execute(counted).mappings():
        counts[found["cohort_id"]][State(found["state"])] = found["count"]
    return [
        Cohort(
            **{name: row[name] for name in _SAME},
            created_at=moment(row["created_at"]),
            counts=counts[row["id"]],
        )
        for row in rows
    ]
