"""The gateway as an ASGI app: routes, front door, and the stores behind them."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import APIRouter, FastAPI
from starlette.middleware.cors import CORSMiddleware

from service.audit.log import AuditLog
from service.gateway import problems
from service.gateway.desk import Desk
from service.gateway.front import FrontDoor
from service.gateway.loopback import OwnPages
from service.gateway.metrics import Metrics
from service.gateway.rest import (
    cohorts,
    datasets,
    events,
    inspect,
    jobs,
    models,
    objects,
    register,
    results,
    storing,
    train,
    uploads,
    warp,
)
from service.gateway.rest import service as service_routes
from service.gateway.schema import describe
from service.gateway.spool import Spool
from service.gateway.web import home, reference
from service.jobs.intake import Intake
from service.keys import Keys, Rates
from service.pacs.peers import Peers
from service.registration.models_folder import ModelFolder
from service.settings import Settings
from service.stores.build import Stores, open_stores
from service.stores.library import ModelLibrary

ROUTERS: tuple[APIRouter, ...] = (
    register.router,
    inspect.router,
    cohorts.router,
    warp.router,
    train.router,
    datasets.router,
    uploads.router,
    jobs.router,
    events.router,
    results.router,
    storing.router,
    objects.router,
    models.router,
    service_routes.router,
)
EXPOSED_HEADERS = (
    "Location",
    "Retry-After",
    "Upload-Offset",
    "X-Request-Id",
    "Idempotent-Replayed",
    "Preference-Applied",
)


def create_app(settings: Settings, stores: Stores | None = None) -> FastAPI:
    """The app for these settings.

    Args:
        settings: All that can be chosen.
        stores: Where jobs and files are; opened from the settings when omitted, and then closed
            with the app.
    """
    opened = open_stores(settings) if stores is None else stores
    desk = make_desk(settings, opened)
    app = FastAPI(
        title="Warpline",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        lifespan=_closing(opened.close if stores is None else _nothing),
        redirect_slashes=False,
    )
    app.state.desk = desk
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router, prefix="/v1")
        app.include_router(router, include_in_schema=False)
    app.include_router(home.router, include_in_schema=False)
    app.include_router(reference.router, include_in_schema=False)
    _wrap(app, settings, desk)
    describe(app)
    return app


def make_desk(settings: Settings, stores: Stores) -> Desk:
    """What the routes work with."""
    return Desk(
        settings=settings,
        stores=stores,
        intake=Intake(
            stores.jobs,
            stores.doorbell,
            settings.max_queued_jobs,
            settings.max_jobs_per_key,
            settings.job_deadline_s,
        ),
        models=ModelLibrary(ModelFolder(settings.models_dir), stores.models),
        spool=Spool(settings.data_dir / "spool", settings.min_free_mib),
        metrics=Metrics(),
        keys=Keys.of(settings),
        rates=Rates(settings.requests_per_minute),
        peers=Peers.of(settings),
        audit=AuditLog.of(settings),
    )


def _wrap(app: FastAPI, settings: Settings, desk: Desk) -> None:
    origins = [origin.strip() for origin in settings.cors_origins.split(",") if origin.strip()]
    app.add_middleware(
        FrontDoor,
        settings=settings,
        keys=desk.keys,
        rates=desk.rates,
        metrics=desk.metrics,
        pages=OwnPages.of(settings),
    )
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=EXPOSED_HEADERS,
        )


def _nothing() -> None:
    """The stores belong to whoever made them."""


def _closing(
    close: Callable[[], None],
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        close()

    return lifespan
