"""What can be asked about many jobs: pages, places, counts, and which objects are still needed."""

import base64
import binascii
from collections.abc import Sequence
from uuid import UUID

import sqlalchemy as sa

from service.errors import ValidationError
from service.jobs.job import Job, Page, Place, State
from service.stores import sql_models
from service.stores.rows import job_of
from service.stores.tables import dataset, job, job_input, upload

# Time left is guessed from this many recent jobs of the same kind.
RECENT_JOBS = 20

UNFINISHED = (State.QUEUED, State.RUNNING)


def page(
    tx: sa.Connection, owner: str | None, states: Sequence[State], limit: int, cursor: str | None
) -> Page:
    """Newest first; one more than asked is read, to know whether the list goes on."""
    wanted = sa.select(job).order_by(job.c.number.desc()).limit(limit + 1)
    if owner is not None:
        wanted = wanted.where(job.c.owner == owner)
    if states:
        wanted = wanted.where(job.c.state.in_([str(state) for state in states]))
    if cursor is not None:
        wanted = wanted.where(job.c.number < number_before(cursor))
    rows = tx.execute(wanted).mappings().all()
    jobs = [job_of(row) for row in rows[:limit]]
    return Page(
        jobs=jobs, cursor=cursor_after(rows[limit - 1]["number"]) if len(rows) > limit else None
    )


def cursor_after(number: int) -> str:
    """What a page that ended with this row gives its caller to go on."""
    return base64.urlsafe_b64encode(f"before {number}".encode()).decode().rstrip("=")


def number_before(cursor: str) -> int:
    """The row that a page goes on before.

    Raises:
        ValidationError: If we never gave that cursor.
    """
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        word, number = text.split(" ")
        if word == "before" and len(number) < 19 and number.isdecimal():
            return int(number)
    except (binascii.Error, ValueError):
        pass
    raise ValidationError("The cursor is not one that this service gave.", field="cursor")


def counts(tx: sa.Connection, owner: str | None, states: Sequence[State]) -> dict[State, int]:
    wanted = sa.select(job.c.state, sa.func.count()).group_by(job.c.state)
    if owner is not None:
        wanted = wanted.where(job.c.owner == owner)
    if states:
        wanted = wanted.where(job.c.state.in_([str(state) for state in states]))
    return {State(state): count for state, count in tx.execute(wanted)}


def place(tx: sa.Connection, row: sa.RowMapping) -> Place | None:
    """Position among the waiting jobs of the same queue, and a guess of the time to the result."""
    if row["state"] != State.QUEUED:
        return None
    ahead = sa.or_(
        job.c.priority < row["priority"],
        sa.and_(job.c.priority == row["priority"], job.c.number < row["number"]),
    )
    waiting = sa.select(sa.func.count()).where(
        job.c.state == State.QUEUED, job.c.queue == row["queue"], ahead
    )
    position = int(tx.execute(waiting).scalar_one()) + 1
    each_s = _recent_seconds(tx, row["kind"])
    if each_s is None:
        return Place(position=position)
    running = sa.select(sa.func.count()).where(job.c.state == State.RUNNING)
    at_once = max(1, int(tx.execute(running).scalar_one()))
    return Place(position=position, seconds_left=round(each_s * (1 + position / at_once), 1))


def _recent_seconds(tx: sa.Connection, kind: str) -> float | None:
    """Mean run time of the latest good jobs of this kind, in seconds."""
    recent = (
        sa.select((job.c.finished_at - job.c.started_at).label("took"))
        .where(job.c.kind == kind, job.c.state == State.SUCCEEDED)
        .order_by(job.c.finished_at.desc())
        .limit(RECENT_JOBS)
        .subquery()
    )
    mean_ms = tx.execute(sa.select(sa.func.avg(recent.c.took))).scalar_one()
    return None if mean_ms is None else float(mean_ms) / 1000


def forgotten(tx: sa.Connection, before: sa.ColumnElement[int], limit: int) -> list[Job]:
    """Jobs that ended before a time; one whose results are being read waits for its reader."""
    old = sa.select(job).where(job.c.finished_at <= before).order_by(job.c.finished_at).limit(limit)
    rows = tx.execute(old).mappings().all()
    return [job_of(row) for row in rows if not is_read(tx, row["id"])]


def is_read(tx: sa.Connection, job_id: UUID) -> bool:
    """Whether an unfinished job has a result of this one among its inputs."""
    return _is_input(tx, f"jobs/{job_id}/")


def _is_input(tx: sa.Connection, prefix: str) -> bool:
    reader = (
        sa.select(1)
        .join(job, job.c.id == job_input.c.job_id)
        .where(
            # A range and not LIKE: the index serves it in both databases and `_` stays a letter.
            job_input.c.key >= prefix,
            job_input.c.key < prefix[:-1] + "0",  # "0" follows "/" in ASCII
            job.c.state.in_([str(state) for state in UNFINISHED]),
        )
        .limit(1)
    )
    return tx.execute(reader).first() is not None


def is_live(tx: sa.Connection, prefix: str) -> bool:
    """Whether objects under a prefix are still needed; see `JobStore.live_keys`.

    An upload's object may have become a data set's. A failed training keeps its checkpoints until
    it is forgotten: somebody may want the last good one.
    """
    kind, _, rest = prefix.partition("/")
    if kind == "models":
        return sql_models.is_live(tx, rest.rstrip("/").rpartition("/")[2])
    identity, _, fence = rest.rstrip("/").partition("/")
    try:
        wanted = UUID(identity)
    except ValueError:
        return True  # not one of our keys: nothing that we may remove
    known: sa.Select[tuple[int]] | sa.CompoundSelect[tuple[int]]
    if kind == "uploads":
        named = sa.select(1).where(dataset.c.key == f"{prefix}data")
        known = sa.select(1).where(upload.c.id == wanted).union_all(named)
    elif kind == "checkpoints":
        resumable = [*UNFINISHED, State.FAILED]
        known = sa.select(1).where(job.c.id == wanted, job.c.state.in_(resumable))
    elif kind == "jobs" and fence.isdecimal():
        known = sa.select(1).where(
            job.c.id == wanted,
            job.c.fence == int(fence),
            job.c.state.in_([State.RUNNING, State.SUCCEEDED]),
        )
    else:
        return True
    return tx.execute(known).first() is not None or _is_input(tx, prefix)
