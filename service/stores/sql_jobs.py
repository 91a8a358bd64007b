"""The job store on SQLite and PostgreSQL.

Every change of a job is one transaction that also writes its event and its ring. A worker's writes
carry the claim's fence; where the fence has moved on, zero rows change and nothing is written.
"""

import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from service.errors import (
    ConflictError,
    IdempotencyKeyReusedError,
    JobCancelledError,
    JobNotFoundError,
)
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
)
from service.stores import sql_listing, sql_models, sql_reaping
from service.stores.database import Database
from service.stores.rows import event_of, job_of, milliseconds
from service.stores.sql_changes import append_event, change, insert_job, key_sha256, ring_later
from service.stores.tables import chore, event, idempotency, job, outbox


class SqlJobStore:
    """`service.jobs.ports.JobStore` on a database."""

    def __init__(self, database: Database) -> None:
        self._db = database

    # --- faces ---

    def add(self, new: NewJob) -> tuple[Job, bool]:
        try:
            with self._db.write() as tx:
                old = self._replay(tx, new.owner, new.idempotency_key, new.request_digest)
                if old is not None:
                    return old, True
                return insert_job(tx, new, self._db.clock()), False
        except IntegrityError:
            # Another process stored the same idempotency key between our look and our insert.
            if new.idempotency_key is None:
                raise
            old = self.replay(new.owner, new.idempotency_key, new.request_digest)
            if old is None:
                raise
            return old, True

    def replay(self, owner: str, key: str, digest: str) -> Job | None:
        with self._db.read() as tx:
            return self._replay(tx, owner, key, digest)

    def _replay(self, tx: sa.Connection, owner: str, key: str | None, digest: str) -> Job | None:
        if key is None:
            return None
        found = tx.execute(
            sa.select(job, idempotency.c.request_digest.label("first_digest"))
            .join(idempotency, idempotency.c.job_id == job.c.id)
            .where(idempotency.c.owner == owner, idempotency.c.key_sha256 == key_sha256(key))
        )
        row = found.mappings().first()
        if row is None:
            return None
        if row["first_digest"] != digest:
            raise IdempotencyKeyReusedError
        return job_of(row)

    def job(self, job_id: UUID, owner: str | None = None) -> Job:
        with self._db.read() as tx:
            found = job_of(_row(tx, job_id))
        if owner is not None and found.owner != owner:
            raise JobNotFoundError
        return found

    def page(
        self,
        owner: str | None,
        *,
        states: Sequence[State] = (),
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        with self._db.read() as tx:
            return sql_listing.page(tx, owner, states, limit, cursor)

    def place(self, job_id: UUID) -> Place | None:
        with self._db.read() as tx:
            return sql_listing.place(tx, _row(tx, job_id))

    def counts(self, owner: str | None = None, states: Sequence[State] = ()) -> dict[State, int]:
        with self._db.read() as tx:
            return sql_listing.counts(tx, owner, states)

    def events(self, job_id: UUID, after: int = 0) -> list[Event]:
        wanted = sa.select(event).where(event.c.job_id == job_id, event.c.seq > after)
        with self._db.read() as tx:
            rows = tx.execute(wanted.order_by(event.c.seq)).mappings()
            return [event_of(row) for row in rows]

    def cancel(self, job_id: UUID) -> Job:
        with self._db.write() as tx:
            row = _row(tx, job_id, lock=True)
            if row["state"] == State.QUEUED:
                problem = JobCancelledError().problem()
                row = change(tx, job_id, self._db.clock(), State.CANCELLED, problem=problem)
            elif row["state"] == State.RUNNING:
                row = _updated(tx, job_id, cancel_requested=True)
            return job_of(row)

    def delete(self, job_id: UUID) -> Job:
        with self._db.write() as tx:
            found = job_of(_row(tx, job_id, lock=True))
            if not found.state.is_terminal:
                raise ConflictError("The job is not finished; cancel it first.")
            if sql_listing.is_read(tx, job_id):
                raise ConflictError("An unfinished job reads this job's results; wait for it.")
            tx.execute(sa.delete(job).where(job.c.id == job_id))
            return found

    # --- workers ---

    def claim(self, queues: Sequence[Queue], worker: str, lease: timedelta) -> Claim | None:
        if self._db.is_sqlite and not self._has_work(queues):
            return None  # idle workers must not queue up for the one write lock
        with self._db.write() as tx:
            for queue in queues:
                row = self._claim(tx, queue, worker, lease)
                if row is not None:
                    taken = job_of(row)
                    return Claim(job=taken, fence=taken.fence, worker=worker)
        return None

    def _waiting(self, queues: Sequence[Queue]) -> sa.ColumnElement[bool]:
        now = self._db.clock()
        return sa.and_(
            job.c.state == State.QUEUED,
            job.c.queue.in_([str(queue) for queue in queues]),
            job.c.not_before <= now,
            job.c.deadline_at > now,
        )

    def _has_work(self, queues: Sequence[Queue]) -> bool:
        with self._db.read() as tx:
            return (
                tx.execute(sa.select(1).where(self._waiting(queues)).limit(1)).first() is not None
            )

    def _claim(
        self, tx: sa.Connection, queue: Queue, worker: str, lease: timedelta
    ) -> sa.RowMapping | None:
        first = (
            sa.select(job.c.number)
            .where(self._waiting([queue]))
            .order_by(job.c.priority, job.c.number)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        now = self._db.clock()
        taking = (
            sa.update(job)
            .where(job.c.number == first.scalar_subquery())
            .values(
                state=State.RUNNING,
                attempt=job.c.attempt + 1,
                fence=job.c.fence + 1,
                worker=worker,
                stage="starting",
                fraction=0.0,
                detail=None,
                started_at=now,
                lease_until=now + milliseconds(lease),
            )
            .returning(job)
        )
        row = tx.execute(taking).mappings().first()
        if row is not None:
            tx.execute(sa.delete(outbox).where(outbox.c.job_id == row["id"]))
            append_event(tx, row["id"], "started", now, {"attempt": row["attempt"]})
        return row

    def beat(self, claim: Claim, progress: Progress, lease: timedelta) -> Order:
        now = self._db.clock()
        with self._db.write() as tx:
            held = sa.select(job.c.stage, job.c.detail).where(*_held(claim)).with_for_update()
            row = tx.execute(held).first()
            if row is None:
                return Order.FENCED_OUT
            prolonged = (
                sa.update(job)
                .where(*_held(claim))
                .values(
                    lease_until=now + milliseconds(lease),
                    stage=progress.stage,
                    fraction=progress.fraction,
                    detail=progress.detail or None,
                )
                .returning(job.c.cancel_requested, (job.c.deadline_at <= now).label("late"))
            )
            told = tx.execute(prolonged).one()
            if progress.is_news(Progress(stage=row.stage, detail=row.detail or {})):
                append_event(tx, claim.job.id, "progress", now, progress.told())
        if told.cancel_requested:
            return Order.CANCEL
        return Order.EXPIRE if told.late else Order.GO_ON

    def succeed(self, claim: Claim, manifest: Manifest, then: NewJob | None = None) -> bool:
        written = manifest.model_dump(mode="json")
        with self._db.write() as tx:
            row = self._finish(tx, claim, State.SUCCEEDED, manifest=written)
            if row is not None and manifest.model is not None:
                sql_models.publish(tx, job_of(row), manifest.model, self._db.clock())
            if row is not None and then is not None:
                insert_job(tx, then, self._db.clock())
            return row is not None

    def end(self, claim: Claim, state: State, problem: dict[str, object] | None) -> bool:
        with self._db.write() as tx:
            return self._finish(tx, claim, state, problem=problem) is not None

    def _finish(
        self, tx: sa.Connection, claim: Claim, state: State, **values: Any
    ) -> sa.RowMapping | None:
        if not _holds(tx, claim):
            return None
        return change(tx, claim.job.id, self._db.clock(), state, **values)

    def retry(self, claim: Claim, delay: timedelta, reason: str, *, counts: bool = True) -> bool:
        with self._db.write() as tx:
            if not _holds(tx, claim):
                return False
            attempt = job.c.attempt if counts else job.c.attempt - 1
            ring_later(
                tx, claim.job.id, self._db.clock(), delay=delay, reason=reason, attempt=attempt
            )
            return True

    # --- reaper ---

    def reap(self, max_attempts: int) -> list[Job]:
        return sql_reaping.reap(self._db, max_attempts, random.random)

    def forgotten(self, retention: timedelta, limit: int = 100) -> list[Job]:
        with self._db.read() as tx:
            return sql_listing.forgotten(tx, self._db.clock() - milliseconds(retention), limit)

    def live_keys(self, prefixes: Sequence[str]) -> set[str]:
        with self._db.read() as tx:
            return {prefix for prefix in prefixes if sql_listing.is_live(tx, prefix)}

    def take_turn(self, name: str, every: timedelta) -> bool:
        now = self._db.clock()
        due = now + milliseconds(every)
        mine = sa.update(chore).where(chore.c.name == name, chore.c.due_at <= now)
        try:
            with self._db.write() as tx:
                if tx.execute(mine.values(due_at=due)).rowcount:
                    return True
                known = sa.select(chore.c.name).where(chore.c.name == name)
                if tx.execute(known).first() is None:
                    tx.execute(sa.insert(chore).values(name=name, due_at=due))
                    return True
                return False
        except IntegrityError:  # another process wrote the chore's first row
            return False

    def ping(self) -> None:
        with self._db.read() as tx:
            tx.execute(sa.select(1))


def _row(tx: sa.Connection, job_id: UUID, *, lock: bool = False) -> sa.RowMapping:
    wanted = sa.select(job).where(job.c.id == job_id)
    row = tx.execute(wanted.with_for_update() if lock else wanted).mappings().first()
    if row is None:
        raise JobNotFoundError
    return row


def _updated(tx: sa.Connection, job_id: UUID, **values: Any) -> sa.RowMapping:
    changing = sa.update(job).where(job.c.id == job_id).values(**values).returning(job)
    return tx.execute(changing).mappings().one()


def _held(claim: Claim) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        job.c.id == claim.job.id,
        job.c.fence == claim.fence,
        job.c.state == State.RUNNING,
    )


def _holds(tx: sa.Connection, claim: Claim) -> bool:
    """Whether the claim still stands; locks the row until the transaction ends."""
    held = sa.select(job.c.id).where(*_held(claim)).with_for_update()
    return tx.execute(held).first() is not None
