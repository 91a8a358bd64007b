"""Who is calling, in a request of the REST API."""

from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import Headers

from service.errors import UnauthenticatedError
from service.keys import Keys, presented_key


def owner_of(keys: Keys, headers: Headers) -> str:
    """Whose request this is.

    Raises:
        UnauthenticatedError: If there are keys and none of them came along.
    """
    return keys.owner(presented_key(headers.get("authorization", ""), headers.get("x-api-key", "")))


def caller(request: Request) -> str:
    """The owner that the front door found for this request."""
    owner = getattr(request.state, "owner", None)
    if owner is None:
        raise UnauthenticatedError
    return str(owner)


Caller = Annotated[str, Depends(caller)]
