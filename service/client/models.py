"""The server's models. Cards are handed out as the server wrote them."""

import json
from typing import Any

from service.client.retrying import answer
from service.client.steps import Call, Flow
from service.errors import ModelNotFoundError


def models() -> Flow[list[dict[str, Any]]]:
    """The models that the server runs."""
    reply = yield from answer(Call("GET", "/v1/models"))
    found: list[dict[str, Any]] = json.loads(reply.body)["models"]
    return found


def model(reference: str) -> Flow[dict[str, Any]]:
    """One model's card: NAME, NAME/VERSION or NAME@ALIAS.

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


def promote(
    name: str, version: str, alias: str = "production", *, force: bool = False
) -> Flow[dict[str, Any]]:
    """Point an alias to a version of a model.

    A trained version goes into `production` only if it did no worse than what is there, on the
    same pairs; or with `force`.
    """
    order = {"version": version, "alias": alias} | ({"force": True} if force else {})
    reply = yield from answer(Call("POST", f"/v1/models/{name}/promote", json=order))
    promoted: dict[str, Any] = json.loads(reply.body)
    return promoted


def roll_back(name: str, alias: str = "production") -> Flow[dict[str, Any]]:
    """Undo an alias's last move; gives the model that it stands for now.

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
