"""`GET /jobs/{id}/results`: what a job left behind, as URLs with a time to live."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from fastapi import APIRouter, Response
from starlette.responses import RedirectResponse

from service.errors import (
    JobHasNoResultError,
    JobNotFinishedError,
    JobNotFoundError,
    ResultNotFoundError,
    UnauthenticatedError,
)
from service.gateway.auth import Caller
from service.gateway.desk import AtDesk
from service.gateway.handing_out import manifest_of, result_of, signed
from service.gateway.problems import problems
from service.gateway.recording import handed_out
from service.gateway.rest.views import ResultFileView, ResultsView

router = APIRouter(tags=["jobs"])

RESULT_ERRORS = (UnauthenticatedError, JobNotFoundError, JobNotFinishedError, JobHasNoResultError)


@router.get(
    "/jobs/{job_id}/results",
    responses=problems(*RESULT_ERRORS),
    summary="Where a job's result files are",
)
def results(job_id: UUID, desk: AtDesk, caller: Caller, response: Response) -> ResultsView:
    """Every result file with a URL that needs no key and works for a quarter of an hour."""
    manifest = manifest_of(desk.stores.jobs.job(job_id, caller))
    handed_out(desk, caller, "url", job_id, manifest.files)
    response.headers["Cache-Control"] = "no-store"
    expires_at = datetime.now(UTC) + timedelta(seconds=desk.settings.url_ttl_s)
    return ResultsView(
        job_id=job_id,
        files={
            name: ResultFileView(
                url=signed(desk, name, file),
                bytes=file.bytes,
                sha256=file.sha256,
                media_type=file.media_type,
            )
            for name, file in manifest.files.items()
        },
        expires_at=expires_at,
        summary=manifest.summary,
    )


@router.get(
    "/jobs/{job_id}/results/{name}",
    status_code=307,
    response_class=RedirectResponse,
    responses=problems(*RESULT_ERRORS, ResultNotFoundError),
    summary="Fetch one result file",
)
def result(job_id: UUID, name: str, desk: AtDesk, caller: Caller) -> RedirectResponse:
    """Redirects to the file's signed URL: `curl -LO .../results/ddf.nii.gz`."""
    file = result_of(desk.stores.jobs.job(job_id, caller), name)
    handed_out(desk, caller, "url", job_id, [name])
    return RedirectResponse(signed(desk, name, file), 307, headers={"Cache-Control": "no-store"})
