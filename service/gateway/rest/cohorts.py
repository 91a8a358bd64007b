"""`/cohorts`: many moving images to one fixed, ordered, watched and read as one."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import AwareDatetime, Field
from starlette.concurrency import run_in_threadpool

from service.errors import CohortNotFoundError, ConflictError, UnauthenticatedError
from service.gateway.auth import Caller
from service.gateway.cohorts import (
    CohortOrder,
    cancel_cohort,
    delete_cohort,
    page_of,
    row_of,
    table_of,
    take_in_cohort,
)
from service.gateway.desk import AtDesk
from service.gateway.orders import validated
from service.gateway.problems import problems
from service.gateway.rest.register import INTAKE_ERRORS, IdempotencyKey
from service.gateway.rest.views import View
from service.jobs.cohorts import Cohort, Member, seconds_left
from service.jobs.job import State
from service.registration.cohort.table import Row, Table

router = APIRouter(tags=["cohorts"])

COHORT_ERRORS = problems(UnauthenticatedError, CohortNotFoundError)
COHORT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/CohortOrder"},
                "example": {
                    "inputs": {"fixed": {"upload_id": "6f1f0c1e-54a9-4d0c-9d5f-0d4f4f0e7c11"}},
                    "subjects": [
                        {
                            "id": "sub-01",
                            "inputs": {
                                "moving": {"upload_id": "0d4f4f0e-54a9-4d0c-9d5f-6f1f0c1e7c11"}
                            },
                        }
                    ],
                    "options": {"refine": "fast"},
                },
            }
        },
    }
}


class SubjectView(View):
    """A subject: its job, and its figures once there are some."""

    job_id: UUID
    figures: Row

    @classmethod
    def of(cls, member: Member) -> "SubjectView":
        return cls(job_id=member.job.id, figures=row_of(member))


class CohortView(View):
    """A cohort as it is now."""

    id: UUID
    subjects: int = Field(description="How many it was ordered with.")
    counts: dict[State, int] = Field(description="Jobs by state.")
    ended: bool = Field(description="Whether no job waits or runs.")
    fraction: float = Field(description="Share of the jobs that have ended, 0 to 1.")
    seconds_left: float | None = Field(
        None, description="A guess, from the jobs that have ended, until the last one has."
    )
    created_at: AwareDatetime
    options: dict[str, Any]
    table: list[SubjectView] | None = Field(
        None, description="Every subject in the order of the request; not in lists."
    )
    links: dict[str, str]

    @classmethod
    def of(cls, cohort: Cohort, members: list[Member] | None = None) -> "CohortView":
        jobs = sum(cohort.counts.values())
        over = sum(count for state, count in cohort.counts.items() if state.is_terminal)
        here = f"/v1/cohorts/{cohort.id}"
        return cls(
            id=cohort.id,
            subjects=cohort.subjects,
            counts=cohort.counts,
            ended=cohort.has_ended,
            fraction=1.0 if not jobs else over / jobs,
            seconds_left=None if members is None else seconds_left(members),
            created_at=cohort.created_at,
            options=cohort.options,
            table=None if members is None else [SubjectView.of(member) for member in members],
            links={
                "self": here,
                "table": f"{here}/cohort.json",
                "csv": f"{here}/cohort.csv",
                "page": f"{here}/cohort.html",
            },
        )


class CohortList(View):
    """A page of cohorts, newest first."""

    cohorts: list[CohortView]
    cursor: str | None = Field(description="Send it back to get the next page; null on the last.")


CANCELLED: dict[int | str, dict[str, Any]] = {
    202: {"model": CohortView, "description": "It was not finished and is cancelled."}
}


@router.post(
    "/cohorts",
    status_code=202,
    responses=problems(*INTAKE_ERRORS),
    openapi_extra=COHORT_BODY,
    summary="Register many moving volumes to a fixed one",
)
async def register_cohort(
    request: Request,
    response: Response,
    desk: AtDesk,
    caller: Caller,
    *,
    idempotency_key: IdempotencyKey = None,
) -> CohortView:
    """Makes one job for each subject, all or none; every worker takes part.

    A subject that fails stops no other. A file that several subjects share is uploaded once.
    """
    desk.spool.require_room()
    order = validated(CohortOrder, await request.body())
    with desk.spool.folder() as folder:
        cohort, is_replayed = await run_in_threadpool(
            take_in_cohort, desk, caller, order, idempotency_key, folder
        )
    response.headers["Location"] = f"/v1/cohorts/{cohort.id}"
    response.headers["Retry-After"] = "1"
    if is_replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return await run_in_threadpool(_view, desk, cohort.id, caller)


def _view(desk: AtDesk, cohort_id: UUID, owner: str) -> CohortView:
    cohort = desk.stores.cohorts.cohort(cohort_id, owner)
    return CohortView.of(cohort, desk.stores.cohorts.members(cohort_id, owner))


@router.get("/cohorts", responses=problems(UnauthenticatedError), summary="List your cohorts")
def cohorts(
    desk: AtDesk,
    caller: Caller,
    response: Response,
    limit: Annotated[int, Query(ge=1, le=200, description="Cohorts on a page.")] = 50,
    cursor: Annotated[
        str | None, Query(max_length=512, description="From the page before.")
    ] = None,
) -> CohortList:
    """Newest first, a page at a time; without their tables."""
    page = desk.stores.cohorts.page(caller, limit=limit, cursor=cursor)
    response.headers["Cache-Control"] = "no-store"
    return CohortList(cohorts=[CohortView.of(one) for one in page.cohorts], cursor=page.cursor)


@router.get("/cohorts/{cohort_id}", responses=COHORT_ERRORS, summary="Look at a cohort")
def cohort(cohort_id: UUID, desk: AtDesk, caller: Caller, response: Response) -> CohortView:
    """Counts by state, the time left, and the table of figures so far."""
    response.headers["Cache-Control"] = "no-store"
    found = _view(desk, cohort_id, caller)
    if not found.ended:
        response.headers["Retry-After"] = "1"
    return found


@router.delete(
    "/cohorts/{cohort_id}",
    status_code=204,
    responses=CANCELLED | problems(UnauthenticatedError, CohortNotFoundError, ConflictError),
    summary="Cancel a cohort, or delete a finished one",
)
def delete(cohort_id: UUID, desk: AtDesk, caller: Caller) -> Response:
    """What waits or runs is cancelled (202); one that has ended goes with its files (204)."""
    if not desk.stores.cohorts.cohort(cohort_id, caller).has_ended:
        cancel_cohort(desk, caller, cohort_id)
        view = _view(desk, cohort_id, caller)
        return Response(view.model_dump_json(), 202, media_type="application/json")
    delete_cohort(desk, caller, cohort_id)
    return Response(status_code=204)


@router.get("/cohorts/{cohort_id}/cohort.json", responses=COHORT_ERRORS, summary="Its figures")
def table(cohort_id: UUID, desk: AtDesk, caller: Caller, response: Response) -> Table:
    """One row for each subject, as `warpline cohort` writes it."""
    response.headers["Cache-Control"] = "no-store"
    return table_of(desk.stores.cohorts.members(cohort_id, caller))


@router.get(
    "/cohorts/{cohort_id}/cohort.csv",
    response_class=Response,
    responses=COHORT_ERRORS | {200: {"content": {"text/csv": {}}}},
    summary="Its figures as CSV",
)
def table_as_csv(cohort_id: UUID, desk: AtDesk, caller: Caller) -> Response:
    """One line for each subject."""
    found = table_of(desk.stores.cohorts.members(cohort_id, caller))
    headers = {"Cache-Control": "no-store"}
    return Response(found.as_csv(), headers=headers, media_type="text/csv; charset=utf-8")


@router.get(
    "/cohorts/{cohort_id}/cohort.html",
    response_class=Response,
    responses=COHORT_ERRORS | {200: {"content": {"text/html": {}}}},
    summary="Its page of thumbnails",
)
def page(cohort_id: UUID, desk: AtDesk, caller: Caller) -> Response:
    """Every subject before and after, worst first; one file that needs no network."""
    members = desk.stores.cohorts.members(cohort_id, caller)
    headers = {"Cache-Control": "no-store"}
    return Response(page_of(desk, members), headers=headers, media_type="text/html; charset=utf-8")
