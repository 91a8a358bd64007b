"""Cohorts by gRPC: many moving images to one fixed, each file sent once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from service.checksums import sha256_of
from service.client.cohorts import CohortId, Files, require_files
from service.client.orders import Order
from service.client.retrying import TRIES
from service.client.rpc_flows import answer, options_of, pause_after, ticket_of, upload
from service.client.rpc_steps import RpcFlow, Talk
from service.client.rpc_views import cohort_of, subject_of
from service.client.views import Cohort, CohortList, CohortSubject
from service.pb import warpline_pb2 as pb


def register_cohort(inputs: Files, subjects: Mapping[str, Files], **terms: Any) -> RpcFlow[Cohort]:
    """Order that many moving images are registered to one fixed; each file is sent once.

    Args:
        inputs: `fixed`, and what else all have in common, by role.
        subjects: `moving`, and what else belongs to it, by role; by the subject's id.
        terms: Options of a registration, queue, priority, deadline_s, idempotency_key.

    Raises:
        InvalidRequestError: If a file is not there, or there is no option of a name.
    """
    order = Order.of("cohort", terms)
    require_files(inputs, *subjects.values())
    request = pb.CreateCohortRequest(options=options_of(order), ticket=ticket_of(order))
    sent: dict[str, str] = {}
    yield from _send(inputs, request.inputs, sent)
    for name, files in subjects.items():
        subject = request.subjects.add(id=name)
        yield from _send(files, subject.inputs, sent)
    made = yield from answer("CreateCohort", request)
    return cohort_of(made.cohort, (yield from _subjects(made.cohort.id)))


def _send(files: Files, references: Any, sent: dict[str, str]) -> RpcFlow[None]:
    """Send files and refer to them; `sent` has the uploads of files by their bytes."""
    for role, file in files.items():
        digest = sha256_of(Path(file))
        if digest not in sent:
            sent[digest] = str((yield from upload(Path(file))).id)
        references[role].upload_id = sent[digest]


def cohort(cohort_id: CohortId, *, tries: int = TRIES) -> RpcFlow[Cohort]:
    """A cohort as it is now, with its table of figures."""
    found = yield from _seen(cohort_id, tries)
    return cohort_of(found, (yield from _subjects(found.id, tries)))


def _seen(cohort_id: CohortId, tries: int = TRIES) -> RpcFlow[pb.Cohort]:
    request = pb.GetCohortRequest(cohort_id=str(cohort_id))
    found: pb.Cohort = (yield from answer("GetCohort", request, tries)).cohort
    return found


def _subjects(cohort_id: str, tries: int = TRIES) -> RpcFlow[list[CohortSubject]]:
    attempt = 0
    while True:
        talk = SubjectsTalk(cohort_id)
        yield talk
        if talk.failure is None:
            return talk.subjects
        attempt += 1
        yield from pause_after(talk.failure, attempt, tries)


class SubjectsTalk(Talk):
    """Takes the subjects of a cohort."""

    method: ClassVar[str] = "ListCohortSubjects"

    def __init__(self, cohort_id: str) -> None:
        self.request = pb.ListCohortSubjectsRequest(cohort_id=cohort_id)
        self.subjects: list[CohortSubject] = []

    def take(self, response: pb.ListCohortSubjectsResponse) -> bool:
        self.subjects += map(subject_of, response.subjects)
        return True


def cohorts(*, limit: int = 50, cursor: str | None = None) -> RpcFlow[CohortList]:
    """A page of your cohorts, newest first."""
    request = pb.ListCohortsRequest(page_size=limit, page_token=cursor or "")
    found = yield from answer("ListCohorts", request)
    page = [cohort_of(one) for one in found.cohorts]
    return CohortList(cohorts=page, cursor=found.next_page_token or None)


def delete_cohort(cohort_id: CohortId) -> RpcFlow[Cohort | None]:
    """Cancel a cohort; one that has ended is forgotten with its files, which gives None."""
    found = yield from _seen(cohort_id)
    if found.has_ended:
        yield from answer("DeleteCohort", pb.DeleteCohortRequest(cohort_id=found.id))
        return None
    request = pb.CancelCohortRequest(cohort_id=found.id)
    stopped = yield from answer("CancelCohort", request)
    return cohort_of(stopped.cohort, (yield from _subjects(found.id)))
