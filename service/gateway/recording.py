"""What the gateway puts into the audit log: ids of ours and digests, nothing of a patient."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar
from uuid import UUID

from service.audit.log import AuditLog
from service.errors import AuditUnavailableError
from service.gateway.desk import Desk
from service.jobs.job import InputFile, Job

P = ParamSpec("P")
R = TypeVar("R")
SIGNED_URL = "signed-url"  # who reads by one: the URL is the credential


def submission(
    kind: str, job_of: Callable[[R], Job]
) -> Callable[[Callable[Concatenate[Desk, str, P], R]], Callable[Concatenate[Desk, str, P], R]]:
    """Records what is handed in by a function of a desk and an owner, and what is refused.

    A job that cannot be recorded and must be is cancelled.
    """

    def decorate(
        take: Callable[Concatenate[Desk, str, P], R],
    ) -> Callable[Concatenate[Desk, str, P], R]:
        @wraps(take)
        def recorded(desk: Desk, owner: str, /, *args: P.args, **named: P.kwargs) -> R:
            job = None
            try:
                with desk.audit.action(owner, "submit", kind=kind) as what:
                    taken = take(desk, owner, *args, **named)
                    job = job_of(taken)
                    what |= {"job": str(job.id), "inputs": inputs_told(job, desk.audit)}
            except AuditUnavailableError:
                if job is not None:
                    desk.stores.jobs.cancel(job.id)
                raise
            return taken

        return recorded

    return decorate


def inputs_told(job: Job, audit: AuditLog) -> dict[str, str]:
    """What each input is, without its name: digest of a file, pseudonym of a series."""
    return {role: _told(file, audit) for role, file in list(job.request.inputs.items())[:64]}


def _told(file: InputFile, audit: AuditLog) -> str:
    if file.pacs is not None:
        return f"{file.pacs.pacs}:{audit.pseudonym(file.pacs.series)}"
    return file.sha256 or ("url" if file.url is not None else "upload")


def handed_out(
    desk: Desk, owner: str, did: str, job_id: UUID, files: Mapping[str, Any] | list[str]
) -> None:
    """Record that result files are read, or that addresses of them are given (`url`).

    Raises:
        AuditUnavailableError: If it must be recorded and cannot.
    """
    desk.audit.note(owner, did, {"job": str(job_id), "files": sorted(files)})
