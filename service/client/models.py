"""The server's models. Cards are handed out as the server wrote them."""

import json
from typing import Any

from service.client.retrying import answer
from service.client.steps import Call, Flow
from service.errors import ModelNotFoundError


def models() -> Flow[list[dict[str, Any]]]:
    """All models."""
    reply = yield from answer(Call("GET", "/v1/models"))
    found: list[dict[str, Any]] = json.loads(reply.body)["models"]
    return found


def model(reference: str) -> Flow[dict[str, Any]]:
    """One model: NAME, NAME/VERSION or NAME@ALIAS.

    Raises:
        ModelNotFoundError: If there is none.
    """
    name, _, alias = reference.partition("@")
    if alias:
        for found in (yield from models()):
            if found["name"] == name and alias in found["aliases"]:
                return found
        raise ModelNotFoundError(f"Model {name} has no alias {alias}.")
    reply = yield from answer(Call("GET", f"/v1/models/{reference}"))
    one: dict[str, Any] = json.loads(reply.body)
    return one


def promote(name: str, version: str, alias: str, *, force: bool) -> Flow[dict[str, Any]]:
    """Point an alias to a version."""
    order = {"version": version, "alias": alias} | ({"force": True} if force else {})
    reply = yield from answer(Call("POST", f"/v1/models/{name}/promote", json=order))
    promoted: dict[str, Any] = json.loads(reply.body)
    return promoted


def roll_back(name: str, alias: str) -> Flow[dict[str, Any]]:
    """Point an alias back to where it pointed before its last move.

    The order says where it points now, so that it can be repeated when its answer is lost.
    """
    now = yield from model(name if alias == "production" else f"{name}@{alias}")
    order = {"version": now["version"], "alias": alias}
    reply = yield from answer(Call("POST", f"/v1/models/{name}/rollback", json=order))
    restored: dict[str, Any] = json.loads(reply.body)
    return restored


def delete(name: str, version: str) -> Flow[None]:
    """Delete a version that a training made.

    Raises:
        ModelNotFoundError: If there is none.
        ModelInUseError: If an alias points to it, or an unfinished job asks for it.
    """
    yield from answer(Call("DELETE", f"/v1/models/{name}/{version}"))
