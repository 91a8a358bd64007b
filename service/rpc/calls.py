"""The call that a servicer's method answers: whose it is, and by which id it can be quoted."""

import uuid
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from service.errors import UnauthenticatedError
from service.keys import presented_key
from service.rpc.status import REQUEST_ID_KEY

_CURRENT: ContextVar["Call"] = ContextVar("call")


@dataclass
class Call:
    """One call while it lasts; `owner` is known once the door let it in."""

    method: str
    key: str
    request_id: str
    owner: str | None = None

    @classmethod
    def of(cls, method: str, metadata: Any) -> "Call":
        """The call with these metadata. A request id that a process of ours gave it is kept."""
        sent = {key: value for key, value in metadata or () if isinstance(value, str)}
        key = presented_key(sent.get("authorization", ""), sent.get("x-api-key", ""))
        return cls(method, key, _known_id(sent.get(REQUEST_ID_KEY, "")) or str(uuid.uuid4()))

    def enter(self) -> None:
        """Make this the call of the running task."""
        _CURRENT.set(self)


def _known_id(text: str) -> str | None:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return None


def current_call() -> Call:
    """The call that the running task answers.

    Raises:
        UnauthenticatedError: If it did not come through the door.
    """
    found = _CURRENT.get(None)
    if found is None:
        raise UnauthenticatedError
    return found


def caller() -> str:
    """The owner that the door found for the running call.

    Raises:
        UnauthenticatedError: If there is none.
    """
    owner = current_call().owner
    if owner is None:
        raise UnauthenticatedError
    return owner
