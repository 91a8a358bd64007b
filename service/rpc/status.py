"""Errors over gRPC: google.rpc.Status with the same codes as over REST, there and back."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, Protocol

import grpc
from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import error_details_pb2, status_pb2

from service.errors import UnavailableError, WarplineError
from service.errors.tree import errors_by_slug
from service.pb import warpline_pb2 as pb

DOMAIN = "warpline"
DETAILS_KEY = "grpc-status-details-bin"
REQUEST_ID_KEY = "x-request-id"
# Peers refuse metadata of more than 8 KiB. The details travel as base64, and beside them the
# sentence, percent-encoded: up to nine bytes a character.
MOST_DETAIL_BYTES = 3000
MOST_SENTENCE_CHARS = 400
MOST_FIELD_CHARS = 200
CODES = {code.name: code for code in grpc.StatusCode}

Trailers = tuple[tuple[str, str | bytes], ...]


class EndedCall(Protocol):
    """What a client knows of a call that has ended, `grpc.RpcError` and `AioRpcError` alike."""

    def code(self) -> grpc.StatusCode | None: ...
    def details(self) -> str | None: ...
    def trailing_metadata(self) -> Any: ...


def code_of(error: WarplineError) -> grpc.StatusCode:
    """The status code that the error's class names."""
    return CODES[error.grpc_code]


def status_of(error: WarplineError, request_id: str | None = None) -> status_pb2.Status:
    """The error with its details: ErrorInfo, RetryInfo, BadRequest and RequestInfo.

    Where there are more faulty fields than metadata can hold, the first ones are named.
    """
    number: int = code_of(error).value[0]
    status = status_pb2.Status(code=number, message=error.detail[:MOST_SENTENCE_CHARS])
    _add(status, _info_of(error))
    if error.wait_s is not None:
        wait = duration_pb2.Duration()
        wait.FromTimedelta(timedelta(seconds=error.wait_s))
        _add(status, error_details_pb2.RetryInfo(retry_delay=wait))
    if request_id is not None:
        _add(status, error_details_pb2.RequestInfo(request_id=request_id))
    room = MOST_DETAIL_BYTES - status.ByteSize()
    if faults := list(_within(room, _violations(error))):
        _add(status, error_details_pb2.BadRequest(field_violations=faults))
    return status


def _info_of(error: WarplineError) -> error_details_pb2.ErrorInfo:
    known = {"title": error.title, "retryable": str(error.retryable).lower()}
    if error.field is not None:
        known["field"] = error.field[:MOST_FIELD_CHARS]
    return error_details_pb2.ErrorInfo(reason=error.slug, domain=DOMAIN, metadata=known)


def _violations(error: WarplineError) -> Iterator[Any]:
    faults = error.errors or (
        ({"field": error.field, "detail": error.detail},) if error.field is not None else ()
    )
    for fault in faults:
        yield error_details_pb2.BadRequest.FieldViolation(
            field=str(fault.get("field") or ""), description=str(fault.get("detail") or "")
        )


def _within(room: int, faults: Iterator[Any]) -> Iterator[Any]:
    for fault in faults:
        room -= fault.ByteSize() + 8
        if room < 0:
            return
        yield fault


def _add(status: status_pb2.Status, detail: message.Message) -> None:
    packed = any_pb2.Any()
    packed.Pack(detail)
    status.details.append(packed)


def trailers_of(error: WarplineError, request_id: str | None = None) -> Trailers:
    """The metadata that carry the status's details."""
    details = (DETAILS_KEY, status_of(error, request_id).SerializeToString())
    return (details,) if request_id is None else (details, (REQUEST_ID_KEY, request_id))


async def abort(
    context: "grpc.aio.ServicerContext[Any, Any]", error: WarplineError, request_id: str | None
) -> None:
    """End a call with the error; never returns."""
    sentence = error.detail[:MOST_SENTENCE_CHARS]
    await context.abort(code_of(error), sentence, trailers_of(error, request_id))


def details_of(call: EndedCall) -> status_pb2.Status | None:
    """The google.rpc.Status of a call that has ended; None where the peer sent none."""
    for key, value in call.trailing_metadata() or ():
        if key == DETAILS_KEY:
            try:
                return status_pb2.Status.FromString(value)
            except message.DecodeError:
                return None
    return None


def error_of(call: EndedCall) -> WarplineError:
    """The error that a call ended with; `WarplineError` for a reason of a newer server."""
    status = details_of(call)
    info = None if status is None else _detail(status, error_details_pb2.ErrorInfo)
    if status is None or info is None or info.domain != DOMAIN:
        return _plain(call)
    retry = _detail(status, error_details_pb2.RetryInfo)
    kind = errors_by_slug().get(info.reason, WarplineError)
    field = info.metadata.get("field")
    return kind(
        status.message or None,
        field=field,
        retry_after_s=None if retry is None else retry.retry_delay.ToTimedelta().total_seconds(),
        errors=_faults(status, field),
    )


def _detail(status: status_pb2.Status, kind: Any) -> Any:
    for packed in status.details:
        if packed.Is(kind.DESCRIPTOR):
            found = kind()
            packed.Unpack(found)
            return found
    return None


def _faults(status: status_pb2.Status, field: str | None) -> tuple[dict[str, Any], ...]:
    bad = _detail(status, error_details_pb2.BadRequest)
    named = [] if bad is None else [(one.field, one.description) for one in bad.field_violations]
    if named == [(field, status.message)]:
        return ()
    return tuple({"field": where, "detail": what} for where, what in named)


def _plain(call: EndedCall) -> WarplineError:
    """What a peer that is no Warpline, or the network, ended the call with."""
    code = call.code() or grpc.StatusCode.UNKNOWN
    if code is grpc.StatusCode.UNAVAILABLE:
        return UnavailableError("The server does not answer.")
    return WarplineError(f"The call ended with {code.name}: {call.details() or 'no reason given'}")


def problem_message(problem: Mapping[str, Any], wait_s: float | None = None) -> pb.Problem:
    """A problem document, as REST shows it, as a message."""
    told = pb.Problem(
        code=str(problem.get("code", "")),
        title=str(problem.get("title", "")),
        detail=str(problem.get("detail", "")),
        field=str(problem.get("field") or ""),
        is_retryable=bool(problem.get("retryable")),
    )
    if wait_s is not None:
        told.retry_after.FromTimedelta(timedelta(seconds=wait_s))
    return told
