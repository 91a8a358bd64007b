"""The server's models by gRPC, as the REST client hands them out."""

from typing import Any

from service.client.rpc_flows import answer
from service.client.rpc_steps import RpcFlow
from service.client.rpc_views import model_of
from service.pb import warpline_pb2 as pb


def models() -> RpcFlow[list[dict[str, Any]]]:
    """The models that the server runs."""
    found = yield from answer("ListModels", pb.ListModelsRequest())
    return [model_of(model) for model in found.models]


def model(reference: str) -> RpcFlow[dict[str, Any]]:
    """One model's card: NAME, NAME/VERSION or NAME@ALIAS."""
    found = yield from answer("GetModel", pb.GetModelRequest(model=reference))
    return model_of(found.model)


def promote(
    name: str, version: str, alias: str = "production", *, force: bool = False
) -> RpcFlow[dict[str, Any]]:
    """Point an alias to a version of a model; see `Client.promote`."""
    request = pb.PromoteModelRequest(name=name, version=version, force=force, alias=alias)
    return model_of((yield from answer("PromoteModel", request)).model)


def roll_back(name: str, alias: str = "production") -> RpcFlow[dict[str, Any]]:
    """Undo an alias's last move; gives the model that it stands for now.

    The order says where it points now, so that it can be repeated when its answer is lost.
    """
    now = yield from model(name if alias == "production" else f"{name}@{alias}")
    request = pb.RollBackModelRequest(name=name, alias=alias, away_from=now["version"])
    return model_of((yield from answer("RollBackModel", request)).model)


def delete(name: str, version: str) -> RpcFlow[None]:
    """Delete a version that a training made; refused while an alias or a job needs it."""
    yield from answer("DeleteModel", pb.DeleteModelRequest(name=name, version=version))
