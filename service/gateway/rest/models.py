"""`/models`: what can be named in `options.model`, and which version is in production."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Request, status
from fastapi import Path as InPath
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from service.errors import (
    ComparisonOutdatedError,
    ConflictError,
    ModelInUseError,
    ModelNotFoundError,
    ModelWorseError,
    NotComparedError,
    NothingToRollBackError,
    UnauthenticatedError,
    ValidationError,
)
from service.gateway import curating
from service.gateway.auth import Caller
from service.gateway.desk import AtDesk
from service.gateway.orders import validated
from service.gateway.problems import problems
from service.gateway.rest.views import View
from service.jobs.model import Comparison
from service.registration.card import Card
from service.stores.library import LibraryModel

router = APIRouter(tags=["models"])

Name = Annotated[str, InPath(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Version = Annotated[str, InPath(pattern=r"^[a-z0-9][a-z0-9.-]{0,30}$")]
MODEL_ERRORS = problems(UnauthenticatedError, ModelNotFoundError)


class ModelView(View):
    """One version of a model."""

    name: str
    version: str
    aliases: list[str] = Field(description="Such as `production`, which a bare name stands for.")
    source: Literal["shipped", "registered"] = Field(
        description="With the software, or made by a training job."
    )
    job_id: UUID | None = Field(None, description="The training job that made it.")
    created_at: AwareDatetime | None = Field(None, description="When that job ended.")
    comparison: Comparison | None = Field(
        None, description="How it did beside the version that was in production at that time."
    )
    card: Card

    @classmethod
    def of(cls, model: LibraryModel) -> "ModelView":
        made = model.registered
        return cls(
            name=model.name,
            version=model.version,
            aliases=list(model.aliases),
            source="shipped" if made is None else "registered",
            job_id=None if made is None else made.job_id,
            created_at=None if made is None else made.created_at,
            comparison=None if made is None else made.comparison,
            card=model.card,
        )


class ModelList(View):
    """Every model of this service."""

    models: list[ModelView]


class _Order(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    alias: str = Field("production", pattern=r"^[a-z]{1,20}$")


class Promotion(_Order):
    """Which version an alias is to point to."""

    version: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,30}$")
    force: bool = Field(
        False, description="Into production without a comparison, or against what it says."
    )


class RollBack(_Order):
    """Which alias is to point where it pointed before."""

    version: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9.-]{0,30}$",
        description="The version to go back from; if the alias points elsewhere by now, nothing "
        "changes. With it the request can be repeated.",
    )


def _body(order: type[BaseModel], example: dict[str, Any], *, required: bool) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{order.__name__}"}
    content = {"application/json": {"schema": schema, "example": example}}
    return {"requestBody": {"required": required, "content": content}}


@router.get("/models", responses=problems(UnauthenticatedError), summary="List models")
def models(desk: AtDesk, caller: Caller) -> ModelList:  # noqa: ARG001 - a key is needed
    """Every version of every model, with its card: shipped ones, and those that jobs made."""
    return ModelList(models=[ModelView.of(model) for model in desk.models.list()])


@router.get("/models/{name}", responses=MODEL_ERRORS, summary="Look at a model")
def model(name: Name, desk: AtDesk, caller: Caller) -> ModelView:  # noqa: ARG001
    """The version that a bare name stands for: `production`, or else the newest."""
    return ModelView.of(desk.models.find(name))


@router.get("/models/{name}/{version}", responses=MODEL_ERRORS, summary="Look at a version")
def version(name: Name, version: Version, desk: AtDesk, caller: Caller) -> ModelView:  # noqa: ARG001
    """What this version promises."""
    return ModelView.of(desk.models.find(f"{name}/{version}"))


@router.delete(
    "/models/{name}/{version}",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=MODEL_ERRORS | problems(ModelInUseError, ConflictError),
    summary="Delete a version",
)
def delete_version(name: Name, version: Version, desk: AtDesk, caller: Caller) -> None:
    """Forget a version that a training made, and its files.

    It is refused for shipped versions, and while an alias points to the version or an unfinished
    job asks for it. Its number is not given again.
    """
    curating.delete_version(desk, caller, name, version)


@router.post(
    "/models/{name}/promote",
    responses=MODEL_ERRORS
    | problems(
        ConflictError, NotComparedError, ComparisonOutdatedError, ModelWorseError, ValidationError
    ),
    openapi_extra=_body(Promotion, {"version": "2"}, required=True),
    summary="Point an alias to a version",
)
async def promote(name: Name, request: Request, desk: AtDesk, caller: Caller) -> ModelView:
    """Jobs from now on use it, on every worker.

    `production` moves to a trained version only if its training measured it on the same pairs as
    the version that is in production now, and it did no worse; or with `force`.
    """
    order = validated(Promotion, await request.body())
    return ModelView.of(
        await run_in_threadpool(
            curating.promote, desk, caller, name, order.version, order.alias, force=order.force
        )
    )


@router.post(
    "/models/{name}/rollback",
    responses=MODEL_ERRORS | problems(NothingToRollBackError, ValidationError),
    openapi_extra=_body(RollBack, {"version": "2"}, required=False),
    summary="Point an alias back",
)
async def roll_back(name: Name, request: Request, desk: AtDesk, caller: Caller) -> ModelView:
    """Undo the alias's last move; the answer is the version that it stands for now."""
    order = validated(RollBack, await request.body() or b"{}")
    return ModelView.of(
        await run_in_threadpool(curating.roll_back, desk, caller, name, order.alias, order.version)
    )
