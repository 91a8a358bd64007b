"""Rows to jobs and back."""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from service.jobs.job import Event, Job, Manifest, Progress, Request, State, Upload

TIMES = ("created_at", "not_before", "deadline_at", "started_at", "finished_at", "lease_until")
SAME = (
    "id",
    "owner",
    "request_digest",
    "queue",
    "priority",
    "attempt",
    "fence",
    "worker",
    "cancel_requested",
    "problem",
)


def milliseconds(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1000)


def moment(milliseconds_since_1970: int) -> datetime:
    return datetime.fromtimestamp(milliseconds_since_1970 / 1000, UTC)


def job_of(row: sa.RowMapping) -> Job:
    """A row of the job table as a Job."""
    times = {name: None if row[name] is None else moment(row[name]) for name in TIMES}
    manifest = row["manifest"]
    return Job(
        **{name: row[name] for name in SAME},
        **times,
        state=State(row["state"]),
        request=Request.model_validate(row["request"]),
        progress=Progress(stage=row["stage"], fraction=row["fraction"], detail=row["detail"] or {}),
        manifest=None if manifest is None else Manifest.model_validate(manifest),
    )


def event_of(row: sa.RowMapping) -> Event:
    return Event(
        job_id=row["job_id"],
        seq=row["seq"],
        type=row["type"],
        at=moment(row["at"]),
        data=row["data"],
    )


def upload_of(row: sa.RowMapping) -> Upload:
    return Upload(
        **{name: row[name] for name in ("id", "owner", "key", "bytes", "received", "sha256")},
        created_at=moment(row["created_at"]),
        expires_at=moment(row["expires_at"]),
    )
