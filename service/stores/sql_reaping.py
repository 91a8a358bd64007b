"""What the reaper does to jobs: the dead, the late, and those that nobody was rung for."""

from collections.abc import Callable, Sequence
from datetime import timedelta

import sqlalchemy as sa

from service.errors import JobCancelledError, JobExpiredError, WorkerLostError
from service.jobs.job import Job, State
from service.stores.database import Database
from service.stores.rows import job_of
from service.stores.sql_changes import FIRST_RING_AGAIN_MS, Now, change, ring_later
from service.stores.tables import job, outbox

# Of one pass; the next one follows in seconds. A worker that hears one ring empties its queues,
# so a handful of rings wakes everyone.
MOST_JOBS = 200
MOST_RINGS = 32
LONGEST_RING_AGAIN_MS = 300_000
FIRST_BACK_OFF_S = 1.0
LONGEST_BACK_OFF_S = 60.0


def reap(database: Database, max_attempts: int, draw: Callable[[], float]) -> list[Job]:
    """Take back lost leases, end late jobs; return the jobs to ring for."""
    now = database.clock()
    with database.write() as tx:
        for row in _some(tx, now, job.c.state == State.QUEUED, job.c.deadline_at <= now):
            change(tx, row["id"], now, State.EXPIRED, problem=JobExpiredError().problem())
        for row in _some(tx, now, job.c.state == State.RUNNING, job.c.lease_until <= now):
            _take_back(tx, row, now, max_attempts, draw)
        return _due_rings(tx, now)


def _some(
    tx: sa.Connection, now: Now, *conditions: sa.ColumnElement[bool]
) -> Sequence[sa.RowMapping]:
    """Rows nobody else has locked, in one order, so that two reapers never wait in a circle."""
    is_late = (job.c.deadline_at <= now).label("is_late")
    wanted = sa.select(job, is_late).where(*conditions).order_by(job.c.number).limit(MOST_JOBS)
    return tx.execute(wanted.with_for_update(skip_locked=True)).mappings().all()


def _take_back(
    tx: sa.Connection,
    row: sa.RowMapping,
    now: Now,
    max_attempts: int,
    draw: Callable[[], float],
) -> None:
    """A running job whose worker fell silent."""
    if row["cancel_requested"]:
        change(tx, row["id"], now, State.CANCELLED, problem=JobCancelledError().problem())
    elif row["is_late"]:
        change(tx, row["id"], now, State.EXPIRED, problem=JobExpiredError().problem())
    elif row["attempt"] >= max_attempts:
        change(tx, row["id"], now, State.FAILED, problem=WorkerLostError().problem())
    else:
        delay = timedelta(seconds=back_off_s(row["attempt"], draw()))
        ring_later(tx, row["id"], now, delay=delay, reason="lease-lost", attempt=job.c.attempt)


def back_off_s(attempt: int, drawn: float) -> float:
    """Seconds to wait before try `attempt` + 1: doubling, and spread so that herds disperse.

    Args:
        attempt: Tries so far, from 1.
        drawn: A number in [0, 1); the wait is between half and the whole of the back-off.
    """
    full = min(LONGEST_BACK_OFF_S, FIRST_BACK_OFF_S * 2.0 ** (attempt - 1))
    return full * (0.5 + 0.5 * drawn)


def _due_rings(tx: sa.Connection, now: Now) -> list[Job]:
    due = (
        sa.select(job, outbox.c.tries)
        .join(outbox, outbox.c.job_id == job.c.id)
        .where(outbox.c.due_at <= now, job.c.state == State.QUEUED)
        .order_by(outbox.c.due_at)
        .limit(MOST_RINGS)
        .with_for_update(skip_locked=True)
    )
    rows = tx.execute(due).mappings().all()
    for row in rows:
        wait_ms = min(LONGEST_RING_AGAIN_MS, FIRST_RING_AGAIN_MS * 2 ** min(row["tries"], 10))
        again = sa.update(outbox).where(outbox.c.job_id == row["id"])
        tx.execute(again.values(due_at=now + wait_ms, tries=outbox.c.tries + 1))
    return [job_of(row) for row in rows]
