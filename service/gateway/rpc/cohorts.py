"""Cohorts over gRPC: many moving images to one fixed, ordered, looked at and read as one."""

import hashlib
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

from starlette.concurrency import run_in_threadpool

from service.errors import ConflictError, ResultNotFoundError
from service.gateway.cohorts import (
    CohortOrder,
    cancel_cohort,
    delete_cohort,
    page_of,
    row_of,
    table_of,
    take_in_cohort,
)
from service.gateway.desk import Desk
from service.gateway.orders import validated
from service.gateway.rest.cohorts import CohortView
from service.gateway.rpc.chunks import outgoing
from service.gateway.rpc.clerk import Clerk, listed, uuid_of
from service.gateway.rpc.messages import STATES, json_text, timestamp
from service.gateway.rpc.orders import (
    OPTIONS,
    idempotency_key,
    references,
    set_fields,
    ticket_fields,
)
from service.jobs.cohorts import Cohort, Member
from service.pb import warpline_pb2 as pb
from service.rpc.calls import caller

# Rows have a few hundred bytes each; a message stays far below its limit.
SUBJECTS_A_MESSAGE = 200
MEDIA_TYPES = {
    "cohort.json": "application/json",
    "cohort.csv": "text/csv; charset=utf-8",
    "cohort.html": "text/html; charset=utf-8",
}


class Cohorts(Clerk):
    """The methods about cohorts."""

    async def CreateCohort(
        self, request: pb.CreateCohortRequest, context: Any
    ) -> pb.CreateCohortResponse:
        """One job for each subject, all or none; every worker takes part."""
        return await run_in_threadpool(_create, self.desk, request, caller())

    async def GetCohort(self, request: pb.GetCohortRequest, context: Any) -> pb.GetCohortResponse:
        """Counts by state, and the time left."""
        found = await run_in_threadpool(_seen, self.desk, request.cohort_id, caller())
        return pb.GetCohortResponse(cohort=found)

    async def ListCohorts(
        self, request: pb.ListCohortsRequest, context: Any
    ) -> pb.ListCohortsResponse:
        """Newest first, a page at a time."""
        found = await listed(self.desk.stores.cohorts.page, request)
        return pb.ListCohortsResponse(
            cohorts=[cohort_message(one) for one in found.cohorts],
            next_page_token=found.cursor or "",
        )

    async def ListCohortSubjects(
        self, request: pb.ListCohortSubjectsRequest, context: Any
    ) -> AsyncIterator[pb.ListCohortSubjectsResponse]:
        """A row for each subject."""
        members = await run_in_threadpool(_members, self.desk, request.cohort_id, caller())
        for start in range(0, len(members), SUBJECTS_A_MESSAGE):
            some = members[start : start + SUBJECTS_A_MESSAGE]
            yield pb.ListCohortSubjectsResponse(subjects=[_subject(member) for member in some])

    async def DownloadCohort(
        self, request: pb.DownloadCohortRequest, context: Any
    ) -> AsyncIterator[pb.DownloadCohortResponse]:
        """The figures so far as a file."""
        data = await run_in_threadpool(_file, self.desk, request, caller())
        for answer in _sent(request.name, data):
            yield answer

    async def CancelCohort(
        self, request: pb.CancelCohortRequest, context: Any
    ) -> pb.CancelCohortResponse:
        """What waits ends at once, what runs within seconds."""
        cohort_id, owner = uuid_of(request.cohort_id, "cohort_id"), caller()
        await run_in_threadpool(cancel_cohort, self.desk, owner, cohort_id)
        found = await run_in_threadpool(_seen, self.desk, request.cohort_id, owner)
        return pb.CancelCohortResponse(cohort=found)

    async def DeleteCohort(
        self, request: pb.DeleteCohortRequest, context: Any
    ) -> pb.DeleteCohortResponse:
        """A cohort that has ended goes with its jobs and their files."""
        await run_in_threadpool(_delete, self.desk, request.cohort_id, caller())
        return pb.DeleteCohortResponse()


def _create(desk: Desk, request: pb.CreateCohortRequest, owner: str) -> pb.CreateCohortResponse:
    desk.spool.require_room()
    order = validated(CohortOrder, _body(request))
    key = idempotency_key(request.ticket.idempotency_key)
    with desk.spool.folder() as folder:
        cohort, is_replayed = take_in_cohort(desk, owner, order, key, folder)
    return pb.CreateCohortResponse(
        cohort=_seen(desk, str(cohort.id), owner), is_replayed=is_replayed
    )


def _body(request: pb.CreateCohortRequest) -> dict[str, Any]:
    """The same order as over REST."""
    return ticket_fields(request.ticket) | {
        "inputs": references(request.inputs),
        "subjects": [{"id": one.id, "inputs": references(one.inputs)} for one in request.subjects],
        "options": set_fields(request.options, *OPTIONS),
    }


def _members(desk: Desk, cohort_id: str, owner: str) -> list[Member]:
    return desk.stores.cohorts.members(uuid_of(cohort_id, "cohort_id"), owner)


def _seen(desk: Desk, cohort_id: str, owner: str) -> pb.Cohort:
    found = desk.stores.cohorts.cohort(uuid_of(cohort_id, "cohort_id"), owner)
    return cohort_message(found, desk.stores.cohorts.members(found.id, owner))


def _delete(desk: Desk, cohort_id: str, owner: str) -> None:
    found = desk.stores.cohorts.cohort(uuid_of(cohort_id, "cohort_id"), owner)
    if not found.has_ended:
        raise ConflictError("Jobs of the cohort wait or run; cancel it first.")
    delete_cohort(desk, owner, found.id)


def cohort_message(cohort: Cohort, members: list[Member] | None = None) -> pb.Cohort:
    """A cohort as it is now, as REST shows it; the time left where its members are at hand."""
    view = CohortView.of(cohort, members)
    told = pb.Cohort(
        id=str(view.id),
        subject_count=view.subjects,
        counts=[
            pb.StateCount(state=STATES[state], jobs=jobs) for state, jobs in view.counts.items()
        ],
        has_ended=view.ended,
        progress=view.fraction,
        created_at=timestamp(view.created_at),
        options_json=json_text(view.options),
    )
    if view.seconds_left is not None:
        told.time_left.FromTimedelta(timedelta(seconds=view.seconds_left))
    return told


def _subject(member: Member) -> pb.CohortSubject:
    return pb.CohortSubject(
        id=member.subject,
        job_id=str(member.job.id),
        figures_json=json_text(row_of(member).model_dump(mode="json")),
    )


def _file(desk: Desk, request: pb.DownloadCohortRequest, owner: str) -> bytes:
    """The file of this name.

    Raises:
        ResultNotFoundError: If there is none.
    """
    members = _members(desk, request.cohort_id, owner)
    if request.name == "cohort.json":
        return table_of(members).model_dump_json().encode()
    if request.name == "cohort.csv":
        return table_of(members).as_csv().encode()
    if request.name == "cohort.html":
        return page_of(desk, members).encode()
    raise ResultNotFoundError(f"The files of a cohort are {', '.join(MEDIA_TYPES)}.", field="name")


def _sent(name: str, data: bytes) -> Iterator[pb.DownloadCohortResponse]:
    told = pb.ResultFile(
        name=name,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).digest(),
        media_type=MEDIA_TYPES[name],
    )
    yield pb.DownloadCohortResponse(file=told)
    for chunk in outgoing(name, 0, data):
        yield pb.DownloadCohortResponse(chunk=chunk)
