"""The server's models by gRPC, as the REST client hands them out."""

import json
from typing import Any

from service.client.rpc_flows import answer
from service.client.rpc_steps import RpcFlow
from service.errors import InvalidRequestError, ModelNotFoundError
from service.pb import warpline_pb2 as pb


def models() -> RpcFlow[list[dict[str, Any]]]:
    """All models."""
    found = yield from answer("ListModels", pb.ListModelsRequest())
    return [model_of(model) for model in found.models]


def model_of(sent: pb.Model) -> dict[str, Any]:
    """A model as the REST API shows it."""
    return {
        "name": sent.name,
        "version": sent.version,
        "aliases": list(sent.aliases),
        "sha256": sent.sha256,
        "card": json.loads(sent.card_json) if sent.card_json else {},
    }


def model(reference: str) -> RpcFlow[dict[str, Any]]:
    """One model: NAME (in production, or else the newest), NAME/VERSION or NAME@ALIAS.

    Raises:
        ModelNotFoundError: If there is none.
    """
    name, _, alias = reference.partition("@")
    name, _, version = name.partition("/")
    versions = [found for found in (yield from models()) if found["name"] == name]
    wanted = [
        found
        for found in versions
        if (not version or found["version"] == version) and (not alias or alias in found["aliases"])
    ]
    if not wanted:
        raise ModelNotFoundError(f"There is no model {reference}.")
    in_production = [found for found in wanted if "production" in found["aliases"]]
    return (in_production or wanted)[-1]


def promote(name: str, version: str, alias: str, *, force: bool) -> RpcFlow[dict[str, Any]]:
    """Point `production` to a version."""
    _require_production(alias)
    request = pb.PromoteModelRequest(name=name, version=version, force=force)
    promoted = yield from answer("PromoteModel", request)
    return (yield from model(f"{name}/{promoted.version}"))


def roll_back(name: str, alias: str) -> RpcFlow[dict[str, Any]]:
    """Undo the last move of `production`.

    An order whose answer is lost may have been carried out: look before asking for it again.
    """
    _require_production(alias)
    restored = yield from answer("RollBackModel", pb.RollBackModelRequest(name=name))
    return (yield from model(f"{name}/{restored.version}" if restored.version else name))


def refuse_deletion(name: str, version: str) -> None:
    """Raises InvalidRequestError: there is no call for it."""
    raise InvalidRequestError(
        f"By gRPC no model is deleted; use the REST API for {name}/{version}.", field="version"
    )


def _require_production(alias: str) -> None:
    if alias != "production":
        raise InvalidRequestError(
            "By gRPC only the alias `production` moves; use the REST API for others.", field="alias"
        )
