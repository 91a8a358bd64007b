"""What it means that a call failed: an error of ours, or a connection that broke."""

import grpc

from service.client.rpc_steps import Failed
from service.errors import (
    AccessError,
    InvalidRequestError,
    LimitError,
    NotFoundError,
    RequestTimeoutError,
    UnauthenticatedError,
    UnavailableError,
    WarplineError,
)
from service.rpc.status import EndedCall, details_of, error_of

# Calls that end like this, without a reason of ours, were cut off on the way.
CUT = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
    }
)
# What a proxy, or grpcio itself, says.
BY_CODE: dict[grpc.StatusCode, type[WarplineError]] = {
    grpc.StatusCode.DEADLINE_EXCEEDED: RequestTimeoutError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.PERMISSION_DENIED: AccessError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: LimitError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.UNIMPLEMENTED: NotFoundError,
}


def failed(call: EndedCall) -> Failed:
    """What a call that failed says, of grpcio's sync or async API."""
    if details_of(call) is not None:
        return Failed(error_of(call))
    code = call.code() or grpc.StatusCode.UNKNOWN
    reason = (call.details() or code.name).rstrip(".")
    if code in CUT:
        return Failed(unreachable(reason), is_lost=True)
    kind = BY_CODE.get(code, WarplineError)
    return Failed(kind(f"The server answered {code.name}: {reason}."))


def unreachable(reason: str) -> WarplineError:
    """No answer."""
    return UnavailableError(f"The server does not answer ({reason}). Is it running?")
