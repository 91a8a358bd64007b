"""Cohorts: many moving images to one fixed, each file uploaded once."""

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from service.checksums import sha256_of
from service.client.orders import AnyPath, fetch_limits, send_file
from service.client.retrying import TRIES, answer
from service.client.steps import Call, Flow
from service.client.views import Cohort, CohortList, Limits
from service.errors import InvalidRequestError

CohortId = UUID | str
Files = Mapping[str, AnyPath]
ENVELOPE = ("queue", "priority", "deadline_s")


def register_cohort(inputs: Files, subjects: Mapping[str, Files], **terms: Any) -> Flow[Cohort]:
    """Order that many moving images are registered to one fixed; each file is sent once.

    Args:
        inputs: `fixed`, and what else all have in common, by role.
        subjects: `moving`, and what else belongs to it, by role; by the subject's id.
        terms: Options of a registration, queue, priority, deadline_s, idempotency_key.

    Raises:
        InvalidRequestError: If a file is not there.
    """
    given = {name: value for name, value in terms.items() if value is not None}
    key = given.pop("idempotency_key", None) or str(uuid.uuid4())
    envelope = {name: given.pop(name) for name in ENVELOPE if name in given}
    require_files(inputs, *subjects.values())
    limits = yield from fetch_limits()
    sent: dict[str, str] = {}
    body = {
        "inputs": (yield from _sent(inputs, limits, sent)),
        "subjects": [],
        "options": given,
        **envelope,
    }
    for name, files in subjects.items():
        references = yield from _sent(files, limits, sent)
        body["subjects"].append({"id": name, "inputs": references})
    call = Call("POST", "/v1/cohorts", headers={"idempotency-key": key}, json=body)
    reply = yield from answer(call)
    return Cohort.model_validate_json(reply.body)


def require_files(*all_files: Files) -> None:
    """Refuse what is not there before anything is sent.

    Raises:
        InvalidRequestError: If a file is not there.
    """
    for files in all_files:
        for role, file in files.items():
            if not Path(file).is_file():
                raise InvalidRequestError(f"There is no file {file}.", field=role)


def _sent(files: Files, limits: Limits, sent: dict[str, str]) -> Flow[dict[str, dict[str, str]]]:
    """References to uploads; `sent` has those of files by their bytes."""
    references = {}
    for role, file in files.items():
        digest = sha256_of(Path(file))
        if digest not in sent:
            upload = yield from send_file(Path(file), limits)
            sent[digest] = str(upload.id)
        references[role] = {"upload_id": sent[digest]}
    return references


def cohort(cohort_id: CohortId, *, tries: int = TRIES) -> Flow[Cohort]:
    """A cohort as it is now, with its table of figures."""
    reply = yield from answer(Call("GET", f"/v1/cohorts/{cohort_id}"), tries)
    return Cohort.model_validate_json(reply.body)


def cohorts(*, limit: int = 50, cursor: str | None = None) -> Flow[CohortList]:
    """A page of your cohorts, newest first."""
    query = {"limit": limit} | ({"cursor": cursor} if cursor else {})
    reply = yield from answer(Call("GET", "/v1/cohorts", query=query))
    return CohortList.model_validate_json(reply.body)


def delete_cohort(cohort_id: CohortId) -> Flow[Cohort | None]:
    """Cancel a cohort; one that has ended is forgotten with its files, which gives None."""
    reply = yield from answer(Call("DELETE", f"/v1/cohorts/{cohort_id}"))
    return Cohort.model_validate_json(reply.body) if reply.body else None
