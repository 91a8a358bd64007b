"""What every part of the servicer has before it."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from starlette.concurrency import run_in_threadpool

from service.errors import ValidationError
from service.gateway.desk import Desk
from service.rpc.calls import caller

USUAL_PAGE, LARGEST_PAGE = 50, 200

Page = TypeVar("Page")


class Clerk:
    """A part of the servicer. Methods run on the gRPC thread's loop, what waits in its threads."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk


def page_size(wanted: int) -> int:
    """The size of a page: 50 where none is asked for.

    Raises:
        ValidationError: If it is not within 1 to 200.
    """
    if not 0 <= wanted <= LARGEST_PAGE:
        raise ValidationError(
            f"page_size is from 1 to {LARGEST_PAGE}, or 0 for {USUAL_PAGE}.", field="page_size"
        )
    return wanted or USUAL_PAGE


async def listed(read: Callable[..., Page], request: Any) -> Page:
    """A page of what the caller owns, read as `page` of a store reads it.

    Raises:
        ValidationError: If the size of the page is not within 1 to 200.
    """
    size, cursor = page_size(request.page_size), request.page_token or None
    return await run_in_threadpool(partial(read, caller(), limit=size, cursor=cursor))


def uuid_of(text: str, field: str) -> UUID:
    """An id of the request.

    Raises:
        ValidationError: If it is none.
    """
    try:
        return UUID(text)
    except ValueError:
        raise ValidationError(f"{field} is not a UUID.", field=field) from None
