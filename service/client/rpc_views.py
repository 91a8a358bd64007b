"""What the gRPC API answers, as the same views that the REST client hands out."""

import json
from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from service.client.views import (
    Cohort,
    CohortSubject,
    Dataset,
    Event,
    Job,
    Place,
    ResultFile,
    Results,
    Upload,
)
from service.pb import warpline_pb2 as pb

STATES = {
    pb.JOB_STATE_QUEUED: "queued",
    pb.JOB_STATE_RUNNING: "running",
    pb.JOB_STATE_SUCCEEDED: "succeeded",
    pb.JOB_STATE_FAILED: "failed",
    pb.JOB_STATE_CANCELLED: "cancelled",
    pb.JOB_STATE_EXPIRED: "expired",
}
STATE_NUMBERS = {name: number for number, name in STATES.items()}


def job_of(sent: pb.Job) -> Job:
    """A job."""
    is_queued, seconds_left = sent.HasField("jobs_before"), _seconds_left(sent)
    place = Place(position=sent.jobs_before + 1, seconds_left=seconds_left) if is_queued else None
    return Job.model_validate(
        {
            "id": sent.id,
            "kind": sent.kind,
            "state": STATES.get(sent.state, "unknown"),
            "stage": sent.stage,
            "fraction": sent.progress,
            "place": place,
            "seconds_left": seconds_left,
            "detail": _object(sent.detail_json),
            "queue": sent.queue or "interactive",
            "priority": sent.priority,
            "attempt": sent.attempt,
            "cancel_requested": sent.is_cancel_requested,
            "created_at": _time(sent.created_at),
            "started_at": _time_of(sent, "started_at"),
            "finished_at": _time_of(sent, "finished_at"),
            "deadline_at": _time_of(sent, "deadline_at"),
            "options": _object(sent.options_json) or {},
            "problem": problem_of(sent.problem) if sent.HasField("problem") else None,
            "summary": _object(sent.summary_json),
            "links": {"store": f"/v1/jobs/{sent.store_job_id}"} if sent.store_job_id else {},
        }
    )


def problem_of(sent: pb.Problem) -> dict[str, Any]:
    """A problem document, as over REST."""
    problem: dict[str, Any] = {
        "type": f"urn:warpline:error:{sent.code}",
        "title": sent.title,
        "code": sent.code,
        "detail": sent.detail,
        "retryable": sent.is_retryable,
    }
    return problem | ({"field": sent.field} if sent.field else {})


def event_of(sent: pb.JobEvent) -> Event:
    """Something that happened to a job."""
    data = _object(sent.data_json) or {}
    kind = sent.type or STATES.get(sent.job.state, "unknown")
    return Event(seq=sent.number, type=kind, at=_time(sent.at), data=data)


def results_of(job_id: str, sent: pb.ListResultsResponse, job: Job) -> Results:
    """The files of a job."""
    ends = [_time(file.url_expires_at) for file in sent.files if file.HasField("url_expires_at")]
    return Results.model_validate(
        {
            "job_id": job_id,
            "files": {file.name: result_file_of(file) for file in sent.files},
            "expires_at": min(ends, default=datetime.now(UTC)),
            "summary": job.summary or {},
        }
    )


def result_file_of(sent: pb.ResultFile) -> ResultFile:
    """One result."""
    return ResultFile(
        url=sent.url, bytes=sent.size_bytes, sha256=sent.sha256.hex(), media_type=sent.media_type
    )


def upload_of(upload_id: str, size_bytes: int, received: int, *, is_complete: bool) -> Upload:
    """A file on its way in."""
    return Upload.model_validate(
        {"id": upload_id, "bytes": size_bytes, "received": received, "complete": is_complete}
    )


def cohort_of(sent: pb.Cohort, subjects: list[CohortSubject] | None = None) -> Cohort:
    """A cohort; in lists its subjects are left out."""
    return Cohort.model_validate(
        {
            "id": sent.id,
            "subjects": sent.subject_count,
            "counts": {STATES.get(one.state, "unknown"): one.jobs for one in sent.counts},
            "ended": sent.has_ended,
            "fraction": sent.progress,
            "seconds_left": _seconds_left(sent),
            "created_at": _time(sent.created_at),
            "table": subjects,
        }
    )


def subject_of(sent: pb.CohortSubject) -> CohortSubject:
    """A subject of a cohort."""
    figures = _object(sent.figures_json) or {}
    return CohortSubject.model_validate({"job_id": sent.job_id, "figures": figures})


def dataset_of(sent: pb.Dataset) -> Dataset:
    """A data set."""
    return Dataset.model_validate(
        {
            "id": sent.id,
            "name": sent.name,
            "sha256": sent.sha256 or None,
            "bytes": sent.size_bytes if sent.HasField("size_bytes") else None,
            "files": sent.files if sent.HasField("files") else None,
            "created_at": _time(sent.created_at),
        }
    )


def model_of(sent: pb.Model) -> dict[str, Any]:
    """A model as the REST API shows it."""
    return {
        "name": sent.name,
        "version": sent.version,
        "aliases": list(sent.aliases),
        "sha256": sent.sha256,
        "source": sent.source,
        "job_id": sent.job_id or None,
        "created_at": sent.created_at.ToJsonString() if sent.HasField("created_at") else None,
        "comparison": _object(sent.comparison_json),
        "card": _object(sent.card_json),
    }


def _object(text: str) -> dict[str, Any] | None:
    found: dict[str, Any] | None = json.loads(text) if text else None
    return found


def _seconds_left(sent: pb.Job | pb.Cohort) -> float | None:
    return sent.time_left.ToMilliseconds() / 1000 if sent.HasField("time_left") else None


def _time(sent: Timestamp) -> datetime:
    return sent.ToDatetime(UTC)


def _time_of(sent: pb.Job, field: str) -> datetime | None:
    return _time(getattr(sent, field)) if sent.HasField(field) else None
