"""The gateway's views as messages: one source for what both faces show."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from service.errors.tree import errors_by_slug
from service.gateway.desk import Desk
from service.gateway.handing_out import manifest_of, signed
from service.gateway.rest.views import JobView
from service.jobs.job import Event, Job, Place, State
from service.pb import warpline_pb2 as pb
from service.rpc.status import problem_message

STATES: dict[State, pb.JobState] = {
    state: getattr(pb, f"JOB_STATE_{state.name}") for state in State
}
TERMINAL = frozenset(state.value for state in State if state.is_terminal)
STATE_OF = {number: state for state, number in STATES.items()}


def timestamp(when: datetime) -> Timestamp:
    """A point in time."""
    told = Timestamp()
    told.FromDatetime(when)
    return told


def json_text(value: Any) -> str:
    """A JSON document; empty where there is none."""
    return "" if value is None else json.dumps(value, separators=(",", ":"), allow_nan=False)


def job_message(job: Job, place: Place | None = None) -> pb.Job:
    """A job as it is now, and its place while it is queued."""
    view = JobView.of(job, place)
    told = pb.Job(
        id=str(view.id),
        kind=view.kind.value,
        state=STATES[view.state],
        stage=view.stage,
        progress=view.fraction,
        created_at=timestamp(view.created_at),
        deadline_at=timestamp(view.deadline_at),
        summary_json=json_text(view.summary),
        detail_json=json_text(view.detail),
        options_json=json_text(view.options),
        attempt=view.attempt,
        queue=view.queue.value,
        priority=view.priority,
        is_cancel_requested=view.cancel_requested,
        store_job_id=view.links.get("store", "").rpartition("/")[2],
    )
    _add_times(told, view)
    if view.place is not None:
        told.jobs_before = view.place.position - 1
    if view.problem is not None:
        told.problem.CopyFrom(stored_problem(view.problem))
    return told


def _add_times(told: pb.Job, view: JobView) -> None:
    if view.started_at is not None:
        told.started_at.CopyFrom(timestamp(view.started_at))
    if view.finished_at is not None:
        told.finished_at.CopyFrom(timestamp(view.finished_at))
    if view.seconds_left is not None:
        told.time_left.FromTimedelta(timedelta(seconds=view.seconds_left))


def stored_problem(problem: dict[str, Any]) -> pb.Problem:
    """The problem that a job ended with."""
    kind = errors_by_slug().get(str(problem.get("code")))
    return problem_message(problem, None if kind is None else kind().wait_s)


def event_message(event: Event, job: Job) -> pb.JobEvent:
    """An event, with the job as it was shown then as far as the event tells."""
    shown = pb.Job(id=str(job.id), kind=job.request.kind.value, state=_state_after(event))
    shown.stage = str(event.data.get("stage", event.type))
    shown.progress = float(event.data.get("fraction", 0.0))
    shown.created_at.CopyFrom(timestamp(job.created_at))
    if event.type in TERMINAL:
        shown = job_message(job)
    return pb.JobEvent(
        number=event.seq,
        at=timestamp(event.at),
        job=shown,
        type=event.type,
        data_json=json_text(event.data),
    )


def _state_after(event: Event) -> pb.JobState:
    if event.type in {state.value for state in State}:
        return STATES[State(event.type)]
    return STATES[State.QUEUED if event.type == "requeued" else State.RUNNING]


def result_messages(desk: Desk, job: Job) -> list[pb.ResultFile]:
    """Every file that the job left behind, by name.

    Raises:
        JobNotFinishedError, JobHasNoResultError: If it left none.
    """
    files = manifest_of(job).files
    expires_at = timestamp(datetime.now(UTC) + timedelta(seconds=desk.settings.url_ttl_s))
    return [
        pb.ResultFile(
            name=name,
            size_bytes=file.bytes,
            sha256=bytes.fromhex(file.sha256),
            media_type=file.media_type,
            url=signed(desk, name, file),
            url_expires_at=expires_at,
        )
        for name, file in sorted(files.items())
    ]
