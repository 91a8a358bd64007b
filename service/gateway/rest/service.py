"""The service about itself: limits, health, metrics."""

from collections.abc import Callable
from typing import Literal

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from service.errors import WarplineError
from service.gateway.auth import Caller
from service.gateway.desk import AtDesk
from service.gateway.limits import MIB
from service.gateway.rest.uploads import CHUNK_BYTES
from service.gateway.rest.views import Health, LimitsView
from service.gateway.rest.waiting import LONGEST_WAIT_S
from service.registration.files.volume_file import FORMATS
from service.settings import Settings

router = APIRouter(tags=["service"])

Answer = Literal["ok", "unavailable"]


@router.get("/limits", summary="What this service accepts")
def limits(desk: AtDesk, caller: Caller) -> LimitsView:  # noqa: ARG001 - a key is needed
    """Sizes, rates and times, so that a client can check before it sends."""
    return limits_of(desk.settings)


def limits_of(settings: Settings) -> LimitsView:
    """What a service with these settings accepts."""
    return LimitsView(
        max_body_bytes=settings.max_body_mib * MIB,
        max_upload_bytes=settings.max_upload_mib * MIB,
        upload_chunk_bytes=CHUNK_BYTES,
        max_voxels=settings.max_voxels,
        max_axis=settings.max_axis,
        requests_per_minute=settings.requests_per_minute,
        max_unfinished_jobs=settings.max_jobs_per_key,
        max_queued_jobs=settings.max_queued_jobs,
        job_deadline_s=settings.job_deadline_s,
        retention_h=settings.retention_h,
        upload_ttl_h=settings.upload_ttl_h,
        url_ttl_s=settings.url_ttl_s,
        training=settings.training,
        max_dataset_bytes=settings.max_dataset_mib * MIB,
        max_dataset_files=settings.max_dataset_files,
        train_max_epochs=settings.train_max_epochs,
        train_max_batch=settings.train_max_batch,
        train_max_hours=settings.train_max_hours,
        train_memory_bytes=settings.train_memory_mib * MIB,
        longest_wait_s=LONGEST_WAIT_S,
        formats=FORMATS,
    )


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", summary="Is the process alive")
def healthz() -> Health:
    """Says ok as long as the process answers at all."""
    return Health(status="ok")


@router.get(
    "/readyz",
    responses={503: {"model": Health, "description": "Something that it needs is missing."}},
    summary="Can it take work",
)
def readyz(desk: AtDesk, response: Response) -> Health:
    """Asks the database, the object store and the disk."""
    checks = {
        "database": _tried(desk.stores.jobs.ping),
        "objects": _tried(lambda: desk.stores.blobs.size("uploads/readyz/none")),
        "disk": _tried(desk.spool.require_room),
    }
    is_ready = set(checks.values()) == {"ok"}
    response.status_code = 200 if is_ready else 503
    response.headers["Cache-Control"] = "no-store"
    return Health(status="ok" if is_ready else "unavailable", checks=checks)


def _tried(look: Callable[[], object]) -> Answer:
    try:
        look()
    except (WarplineError, OSError):
        return "unavailable"
    return "ok"


@router.get("/metrics", response_class=Response, summary="Figures for Prometheus")
def metrics(desk: AtDesk) -> Response:
    """Requests by route and status, jobs by state, age of the queue."""
    return Response(desk.metrics.exposition(desk.stores.jobs), media_type=CONTENT_TYPE_LATEST)
