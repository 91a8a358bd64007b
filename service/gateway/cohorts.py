"""Cohorts: what a caller orders, how it becomes jobs, and what came out of them."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from service.errors import (
    AuditUnavailableError,
    ConflictError,
    ResultNotFoundError,
    ValidationError,
    WarplineError,
)
from service.gateway.closing import delete_job
from service.gateway.desk import Desk
from service.gateway.door import check_files
from service.gateway.inputs import referred
from service.gateway.orders import LONGEST_DEADLINE_S, Reference
from service.gateway.taking_in import require_model
from service.jobs.cohorts import Cohort, CohortIntake, Member, NewCohort, Subject
from service.jobs.job import InputFile, Job, Kind, Queue, Request, State
from service.paths import SUBJECT_ID
from service.registration.cohort.page import render_cohort
from service.registration.cohort.table import Row, Table
from service.registration.cohort.table import State as RowState
from service.registration.options import RegisterOptions

MOST_SUBJECTS = 10_000
# By default a cohort may take an hour, as a job may, and this much more for each subject.
MORE_S = 60.0
STATES: dict[State, RowState] = {
    State.QUEUED: "waiting",
    State.RUNNING: "running",
    State.SUCCEEDED: "done",
    State.FAILED: "failed",
    State.EXPIRED: "failed",
    State.CANCELLED: "cancelled",
}

FixedRole = Literal["fixed", "fixed_labels", "fixed_mask", "fixed_points"]
MovingRole = Literal["moving", "moving_labels", "moving_mask", "moving_points", "initial_transform"]


class SubjectOrder(BaseModel):
    """One moving image and what belongs to it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(
        pattern=SUBJECT_ID, description="Your word for it, different from all others; no names."
    )
    inputs: dict[MovingRole, Reference] = Field(description="Files by role; `moving` is needed.")


class CohortOrder(BaseModel):
    """Many moving images to one fixed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    inputs: dict[FixedRole, Reference] = Field(
        description="What all subjects have in common, by role; `fixed` is needed."
    )
    subjects: list[SubjectOrder] = Field(min_length=1, max_length=MOST_SUBJECTS)
    options: RegisterOptions = Field(default_factory=RegisterOptions)
    queue: Literal["interactive", "batch"] = "batch"
    priority: int = Field(5, ge=0, le=9, description="Within the queue; 0 is first.")
    deadline_s: float | None = Field(
        None,
        gt=0,
        le=LONGEST_DEADLINE_S,
        description="Seconds from now after which what is not done expires.",
    )


def take_in_cohort(
    desk: Desk, owner: str, order: CohortOrder, key: str | None, folder: Path
) -> tuple[Cohort, bool]:
    """Check an order as a whole and make its jobs; `folder` is room for copies of fixed files.

    The fixed files' headers are checked here, those of each subject by its own job, whose failure
    stops no other.

    Raises:
        ValidationError: If an id is there twice, or an image is missing.
        ModelNotFoundError: If there is no such model.
        InvalidFileError: If a fixed file will not do.
        WarplineError: Of the first reference that will not do; `errors` tells them all.
        QueueFullError, QuotaExceededError, IdempotencyKeyReusedError: From the intake.
    """
    cohort = None
    try:
        with desk.audit.action(owner, "submit", kind="cohort") as what:
            cohort, is_replayed = _taken_in(desk, owner, order, key, folder)
            what |= {"cohort": str(cohort.id), "subjects": cohort.subjects}
    except AuditUnavailableError:
        if cohort is not None:
            desk.stores.cohorts.cancel(cohort.id, owner)
        raise
    return cohort, is_replayed


def _taken_in(
    desk: Desk, owner: str, order: CohortOrder, key: str | None, folder: Path
) -> tuple[Cohort, bool]:
    _require_whole(order)
    require_model(desk.models, order.options.model)
    inputs = _all_referred(desk, owner, order)
    fixed = inputs[0]
    check_files(_copies(desk, fixed, folder), desk.file_limits)
    options = order.options.model_dump(mode="json")
    subjects = [
        Subject(
            id=one.id,
            request=Request(kind=Kind.REGISTER, inputs=fixed | moving, options=options),
        )
        for one, moving in zip(order.subjects, inputs[1:], strict=True)
    ]
    lasts_s = desk.intake.deadline_s + MORE_S * len(subjects)
    new = NewCohort(
        owner=owner,
        subjects=subjects,
        options=options,
        queue=Queue(order.queue),
        priority=order.priority,
        deadline_s=order.deadline_s or min(LONGEST_DEADLINE_S, lasts_s),
        idempotency_key=key,
    )
    return CohortIntake(desk.stores.cohorts, desk.intake).submit(new)


def _require_whole(order: CohortOrder) -> None:
    faults, seen = [], set[str]()
    if "fixed" not in order.inputs:
        faults.append({"field": "/inputs/fixed", "detail": "The fixed image is missing."})
    for number, one in enumerate(order.subjects):
        if "moving" not in one.inputs:
            field = f"/subjects/{number}/inputs/moving"
            faults.append({"field": field, "detail": "The moving image is missing."})
        if one.id in seen:
            field = f"/subjects/{number}/id"
            faults.append({"field": field, "detail": "Another subject has the same id."})
        seen.add(one.id)
    if faults:
        first = faults[0]
        raise ValidationError(first["detail"], field=first["field"], errors=tuple(faults))


def _all_referred(desk: Desk, owner: str, order: CohortOrder) -> list[dict[str, InputFile]]:
    """The fixed inputs, then each subject's; every reference that will not do is told."""
    found, faults = [], []
    places = [("", order.inputs)]
    places += [(f"/subjects/{number}", one.inputs) for number, one in enumerate(order.subjects)]  # type: ignore[misc]
    for place, references in places:
        try:
            found.append(referred(desk, owner, {str(k): v for k, v in references.items()}))
        except WarplineError as error:
            error.field = f"{place}{error.field or ''}"
            faults.append(error)
    if faults:
        faults[0].errors = tuple({"field": one.field, "detail": one.detail} for one in faults)
        raise faults[0]
    return found


def _copies(desk: Desk, inputs: dict[str, InputFile], folder: Path) -> dict[str, Path]:
    """Objects of the store where they can be read; the worker looks at what lies elsewhere."""
    paths = {role: folder / role for role, file in inputs.items() if file.key is not None}
    for role, path in paths.items():
        desk.stores.blobs.get_file(inputs[role].key or "", path)
    return paths


def table_of(members: Sequence[Member]) -> Table:
    """The figures of all subjects so far."""
    return Table.of([row_of(member) for member in members])


def row_of(member: Member) -> Row:
    """One subject as its job is now."""
    job, seconds = member.job, _seconds(member.job)
    if job.manifest is not None:
        return Row.of_summary(member.subject, job.manifest.summary, seconds)
    row = Row(id=member.subject, state=STATES[job.state], problem=job.problem)
    return row if seconds is None else row.model_copy(update={"seconds": round(seconds, 3)})


def _seconds(job: Job) -> float | None:
    if job.started_at is None or job.finished_at is None:
        return None
    return (job.finished_at - job.started_at).total_seconds()


def page_of(desk: Desk, members: Sequence[Member]) -> str:
    """All subjects to look through; the links lead to each job's report."""
    jobs = {member.subject: member.job for member in members}

    def overlay(subject: str) -> bytes | None:
        manifest = jobs[subject].manifest
        file = None if manifest is None else manifest.files.get("overlay.png")
        if file is None:
            return None
        with suppress(ResultNotFoundError):
            return desk.stores.blobs.get_bytes(file.key)
        return None

    links = {
        subject: f"/v1/jobs/{job.id}/results/report.html"
        for subject, job in jobs.items()
        if job.manifest is not None
    }
    return render_cohort(table_of(members), overlay, links)


def cancel_cohort(desk: Desk, owner: str, cohort_id: UUID) -> None:
    """Stop what waits or runs.

    Raises:
        CohortNotFoundError: If there is none, or it is another owner's.
    """
    with desk.audit.action(owner, "cancel", cohort=str(cohort_id)):
        desk.stores.cohorts.cancel(cohort_id, owner)


def delete_cohort(desk: Desk, owner: str, cohort_id: UUID) -> None:
    """Forget a cohort that has ended, its jobs and their files.

    Raises:
        CohortNotFoundError: If there is none, or it is another owner's.
        ConflictError: If an unfinished job reads a result of it; the others are gone then.
    """
    conflicts: list[Any] = []
    for member in desk.stores.cohorts.members(cohort_id, owner):
        try:
            delete_job(desk, member.job.id, owner)
        except ConflictError as error:
            conflicts.append(error)
    if conflicts:
        raise conflicts[0]
    desk.stores.cohorts.forget(cohort_id, owner)
