"""Live sessions: what a client of them did wrong, and how they end."""

from service.errors.answers import (
    ConflictError,
    LimitError,
    NotFoundError,
    UnavailableError,
)
from service.errors.requests import InvalidRequestError


class LiveProtocolError(InvalidRequestError):
    """A message came where the protocol of live sessions has no place for it."""

    slug, grpc_code = "live-protocol", "FAILED_PRECONDITION"


class ChunkOrderError(InvalidRequestError):
    """A chunk does not go on where the one before ended."""

    slug = "chunk-out-of-order"


class ChunkSizeError(InvalidRequestError):
    """A chunk is smaller or larger than chunks may be."""

    slug = "chunk-size"


class FrameOrderError(InvalidRequestError):
    """The frame's number is not higher than the one before."""

    slug = "frame-out-of-order"


class FrameIncompleteError(InvalidRequestError):
    """The frame's bytes were not all sent before the next one began."""

    slug, grpc_code = "frame-incomplete", "DATA_LOSS"


class FrameMismatchError(InvalidRequestError):
    """The frame does not have the shape, the type or the spacing that was announced."""

    slug = "frame-mismatch"


class BudgetTooShortError(InvalidRequestError):
    """This machine cannot register frames within the budget."""

    slug, grpc_code = "budget-too-short", "FAILED_PRECONDITION"


class SessionNotFoundError(NotFoundError):
    """There is no such live session of yours; it may have expired."""

    slug = "session-not-found"


class SessionTakenOverError(ConflictError):
    """Another connection goes on with this live session."""

    slug = "session-taken-over"


class CreditExceededError(LimitError):
    """More was sent than the other side has room for."""

    slug, retryable = "credit-exceeded", False


class SessionIdleError(LimitError):
    """Nothing was heard for too long; the connection was ended."""

    slug, http_status, grpc_code = "session-idle", 408, "DEADLINE_EXCEEDED"


class LiveQuotaExceededError(LimitError):
    """This key has as many live sessions, or as much memory for them, as one key may have."""

    slug = "live-quota-exceeded"


class LiveFullError(UnavailableError):
    """There is no room for another live session now; try again later."""

    slug = "live-full"


class LiveStoppingError(UnavailableError):
    """The process is stopping; open the session again, with its reference."""

    slug = "live-stopping"
