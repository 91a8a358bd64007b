"""What every part of the servicer has before it."""

from uuid import UUID

from service.errors import ValidationError
from service.gateway.desk import Desk

USUAL_PAGE, LARGEST_PAGE = 50, 200


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


def uuid_of(text: str, field: str) -> UUID:
    """An id of the request.

    Raises:
        ValidationError: If it is none.
    """
    try:
        return UUID(text)
    except ValueError:
        raise ValidationError(f"{field} is not a UUID.", field=field) from None
