"""Models over gRPC: what can be asked for, and which version is in production."""

from typing import Any

from starlette.concurrency import run_in_threadpool

from service.gateway import curating
from service.gateway.desk import Desk
from service.gateway.orders import validated
from service.gateway.rest.models import ModelView, Promotion, RollBack
from service.gateway.rpc.clerk import Clerk
from service.gateway.rpc.messages import json_text, timestamp
from service.jobs.model import PRODUCTION
from service.pb import warpline_pb2 as pb
from service.rpc.calls import caller
from service.stores.library import LibraryModel


class Models(Clerk):
    """The methods about models."""

    async def ListModels(
        self, request: pb.ListModelsRequest, context: Any
    ) -> pb.ListModelsResponse:
        """Every version of every model, with its card: shipped ones, and those that jobs made."""
        found = await run_in_threadpool(self.desk.models.list)
        return pb.ListModelsResponse(models=[model_message(model) for model in found])

    async def GetModel(self, request: pb.GetModelRequest, context: Any) -> pb.GetModelResponse:
        """What this version promises."""
        found = await run_in_threadpool(self.desk.models.find, request.model)
        return pb.GetModelResponse(model=model_message(found))

    async def PromoteModel(
        self, request: pb.PromoteModelRequest, context: Any
    ) -> pb.PromoteModelResponse:
        """Jobs from now on use it, on every worker."""
        return await run_in_threadpool(_promote, self.desk, request, caller())

    async def RollBackModel(
        self, request: pb.RollBackModelRequest, context: Any
    ) -> pb.RollBackModelResponse:
        """Undo the alias's last move."""
        asked = {"alias": request.alias, "version": request.away_from}
        order = validated(RollBack, {name: text for name, text in asked.items() if text})
        found = await run_in_threadpool(
            curating.roll_back, self.desk, caller(), request.name, order.alias, order.version
        )
        return pb.RollBackModelResponse(version=found.version, model=model_message(found))

    async def DeleteModel(
        self, request: pb.DeleteModelRequest, context: Any
    ) -> pb.DeleteModelResponse:
        """Forget a version that a training made, and its files."""
        await run_in_threadpool(
            curating.delete_version, self.desk, caller(), request.name, request.version
        )
        return pb.DeleteModelResponse()


def _promote(desk: Desk, request: pb.PromoteModelRequest, owner: str) -> pb.PromoteModelResponse:
    order = validated(
        Promotion,
        {
            "version": request.version,
            "force": request.force,
            "alias": request.alias or PRODUCTION,
        },
    )
    before = _pointed_to(desk, request.name, order.alias)
    found = curating.promote(
        desk, owner, request.name, order.version, order.alias, force=order.force
    )
    return pb.PromoteModelResponse(
        version=found.version, previous_version=before or "", model=model_message(found)
    )


def _pointed_to(desk: Desk, name: str, alias: str) -> str | None:
    if alias == PRODUCTION:
        return desk.models.in_production(name)
    return desk.models.registry.shelf(name).aliases.get(alias)


def model_message(model: LibraryModel) -> pb.Model:
    """A version of a model, as REST shows it."""
    view = ModelView.of(model)
    comparison = None if view.comparison is None else view.comparison.model_dump(mode="json")
    told = pb.Model(
        name=view.name,
        version=view.version,
        aliases=view.aliases,
        sha256=view.card.sha256,
        card_json=json_text(view.card.model_dump(mode="json")),
        source=view.source,
        job_id="" if view.job_id is None else str(view.job_id),
        comparison_json=json_text(comparison),
    )
    if view.created_at is not None:
        told.created_at.CopyFrom(timestamp(view.created_at))
    return told
