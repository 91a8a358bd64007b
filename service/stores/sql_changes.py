"""The changes of a job that more than one verb makes, inside the caller's transaction."""

from datetime import timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa

from service.jobs.job import Job, NewJob, State
from service.stores import sql_models
from service.stores.rows import job_of, milliseconds
from service.stores.tables import event, idempotency, job, job_input, outbox

RING = "ring"
# The submitter rings at once; only when no worker came in this time does the reaper ring again.
FIRST_RING_AGAIN_MS = 5_000

Now = sa.ColumnElement[int]


def key_sha256(key: str) -> str:
    """An idempotency key as it is stored: callers may put a name into it."""
    return sha256(key.encode()).hexdigest()


def append_event(
    tx: sa.Connection, job_id: UUID, type_: str, now: Now, data: dict[str, Any] | None = None
) -> None:
    """Write the job's next event; the row's counter leaves no gaps, its lock no doubles."""
    counted = (
        sa.update(job)
        .where(job.c.id == job_id)
        .values(last_seq=job.c.last_seq + 1)
        .returning(job.c.last_seq)
    )
    seq = tx.execute(counted).scalar_one()
    tx.execute(
        sa.insert(event).values(job_id=job_id, seq=seq, type=type_, at=now, data=dict(data or {}))
    )


def insert_job(tx: sa.Connection, new: NewJob, now: Now) -> Job:
    """Store the job with its inputs, idempotency key, first event and ring."""
    job_id = new.id or uuid4()
    number = None if new.publishes is None else sql_models.reserve(tx, new.publishes)
    adding = (
        sa.insert(job)
        .values(
            id=job_id,
            owner=new.owner,
            kind=new.request.kind,
            request=new.asked(number).model_dump(mode="json"),
            request_digest=new.request_digest,
            state=State.QUEUED,
            queue=new.queue,
            priority=new.priority,
            stage="queued",
            fraction=0.0,
            attempt=0,
            fence=0,
            last_seq=0,
            cancel_requested=False,
            created_at=now,
            not_before=now,
            deadline_at=now + milliseconds(timedelta(seconds=new.deadline_s)),
        )
        .returning(job)
    )
    row = tx.execute(adding).mappings().one()
    _insert_inputs(tx, job_id, new)
    append_event(tx, job_id, "queued", now, {"queue": str(new.queue)})
    _insert_ring(tx, job_id, now + FIRST_RING_AGAIN_MS)
    return job_of(row)


def _insert_inputs(tx: sa.Connection, job_id: UUID, new: NewJob) -> None:
    keys = {file.key for file in new.request.inputs.values() if file.key is not None}
    if keys:
        tx.execute(sa.insert(job_input), [{"job_id": job_id, "key": key} for key in sorted(keys)])
    if new.idempotency_key is not None:
        tx.execute(
            sa.insert(idempotency).values(
                owner=new.owner,
                key_sha256=key_sha256(new.idempotency_key),
                request_digest=new.request_digest,
                job_id=job_id,
            )
        )


def _insert_ring(tx: sa.Connection, job_id: UUID, due_at: Now) -> None:
    tx.execute(sa.delete(outbox).where(outbox.c.job_id == job_id))
    tx.execute(sa.insert(outbox).values(topic=RING, job_id=job_id, due_at=due_at, tries=0))


def change(tx: sa.Connection, job_id: UUID, now: Now, state: State, **values: Any) -> sa.RowMapping:
    """End the job in a terminal state, with its event; nobody needs to be rung for it."""
    tx.execute(sa.delete(outbox).where(outbox.c.job_id == job_id))
    problem = values.get("problem") or {}
    append_event(tx, job_id, str(state), now, {"code": problem["code"]} if problem else None)
    ending = (
        sa.update(job)
        .where(job.c.id == job_id)
        .values(state=state, finished_at=now, lease_until=None, **values)
        .returning(job)
    )
    if state == State.SUCCEEDED:
        ending = ending.values(stage="done", fraction=1.0, detail=None)
    return tx.execute(ending).mappings().one()


def ring_later(
    tx: sa.Connection,
    job_id: UUID,
    now: Now,
    *,
    delay: timedelta,
    reason: str,
    attempt: sa.ColumnElement[int],
) -> None:
    """Put a running job back in its queue, to be rung for once `delay` is over."""
    not_before = now + milliseconds(delay)
    tx.execute(
        sa.update(job)
        .where(job.c.id == job_id)
        .values(
            state=State.QUEUED,
            stage="queued",
            fraction=0.0,
            detail=None,
            attempt=attempt,
            worker=None,
            lease_until=None,
            not_before=not_before,
        )
    )
    append_event(tx, job_id, "requeued", now, {"reason": reason})
    _insert_ring(tx, job_id, not_before)
