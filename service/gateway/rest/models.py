"""`/models`: what can be named in `options.model`, and what each promises."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi import Path as InPath
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from service.errors import ConflictError, ModelNotFoundError, UnauthenticatedError, ValidationError
from service.gateway.auth import Caller
from service.gateway.desk import AtDesk
from service.gateway.orders import validated
from service.gateway.problems import problems
from service.gateway.rest.views import View
from service.registration.card import Card
from service.registration.models_folder import ModelFolder

router = APIRouter(tags=["models"])

Name = Annotated[str, InPath(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Version = Annotated[str, InPath(pattern=r"^[a-z0-9][a-z0-9.-]{0,30}$")]
MODEL_ERRORS = problems(UnauthenticatedError, ModelNotFoundError)


class ModelView(View):
    """One version of a model."""

    name: str
    version: str
    aliases: list[str] = Field(description="Such as `production`, which a bare name stands for.")
    card: Card


class ModelList(View):
    """Every model of this service."""

    models: list[ModelView]


class Promotion(BaseModel):
    """Which version an alias is to point to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,30}$")
    alias: str = Field("production", pattern=r"^[a-z]{1,20}$")


PROMOTION_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/Promotion"},
                "example": {"version": "2"},
            }
        },
    }
}


@router.get("/models", responses=problems(UnauthenticatedError), summary="List models")
def models(desk: AtDesk, caller: Caller) -> ModelList:  # noqa: ARG001 - a key is needed
    """Every version of every model, with its card."""
    return ModelList(
        models=[
            ModelView(
                name=model.name, version=model.version, aliases=list(model.aliases), card=model.card
            )
            for model in desk.models.list()
        ]
    )


@router.get("/models/{name}", responses=MODEL_ERRORS, summary="Look at a model")
def model(name: Name, desk: AtDesk, caller: Caller) -> ModelView:  # noqa: ARG001
    """The version that a bare name stands for: `production`, or else the newest."""
    return _view(desk.models, desk.models.card(name))


@router.get("/models/{name}/{version}", responses=MODEL_ERRORS, summary="Look at a version")
def version(name: Name, version: Version, desk: AtDesk, caller: Caller) -> ModelView:  # noqa: ARG001
    """What this version promises."""
    return _view(desk.models, desk.models.card(f"{name}/{version}"))


@router.post(
    "/models/{name}/promote",
    responses=MODEL_ERRORS | problems(ConflictError, ValidationError),
    openapi_extra=PROMOTION_BODY,
    summary="Point an alias to a version",
)
async def promote(name: Name, request: Request, desk: AtDesk, caller: Caller) -> ModelView:  # noqa: ARG001
    """Jobs from now on use it; going back is the same call with the version before."""
    order = validated(Promotion, await request.body())
    card = desk.models.card(f"{name}/{order.version}")
    try:
        await run_in_threadpool(desk.models.set_alias, name, order.version, order.alias)
    except OSError:
        raise ConflictError(
            "The folder of models cannot be written to by this service; its operator moves aliases."
        ) from None
    return _view(desk.models, card)


def _view(folder: ModelFolder, card: Card) -> ModelView:
    table = folder.aliases(card.name)
    aliases = sorted(alias for alias, version in table.items() if version == card.version)
    return ModelView(name=card.name, version=card.version, aliases=aliases, card=card)
