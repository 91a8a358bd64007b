"""Every error as `application/problem+json` (RFC 9457), whoever raised it."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.responses import Response

from service.errors import (
    BodyTooLargeError,
    HeadersTooLargeError,
    InternalError,
    MethodNotAllowedError,
    NotFoundError,
    RequestTimeoutError,
    StorageFullError,
    UnauthenticatedError,
    UnavailableError,
    ValidationError,
    WarplineError,
)

MEDIA_TYPE = "application/problem+json"
# After these the rest of the request's body is not wanted any more.
CLOSING = (BodyTooLargeError, RequestTimeoutError, HeadersTooLargeError, StorageFullError)

logger = logging.getLogger(__name__)


def body_of(error: WarplineError, request_id: str | None) -> bytes:
    """The problem as JSON; `instance` is the request's id, to quote to the operator."""
    body = error.problem()
    if request_id is not None:
        body["instance"] = f"urn:uuid:{request_id}"
    return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()


def headers_of(error: WarplineError) -> dict[str, str]:
    """What HTTP wants beside the body: when to retry, how to authenticate, whether to hang up."""
    headers = {"Cache-Control": "no-store"}
    if error.wait_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.wait_s)))
    if isinstance(error, UnauthenticatedError):
        headers["WWW-Authenticate"] = 'Bearer realm="warpline"'
    if isinstance(error, CLOSING):
        headers["Connection"] = "close"
    return headers


def render(error: WarplineError, request_id: str | None = None) -> Response:
    """The response that tells a caller about an error."""
    return Response(
        body_of(error, request_id), error.http_status, headers_of(error), media_type=MEDIA_TYPE
    )


def pointer(location: Sequence[int | str]) -> str:
    """A JSON pointer (RFC 6901) into the request's body."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in location)


def faults(
    details: Sequence[ErrorDetails | Mapping[str, Any]], prefix: str = ""
) -> ValidationError:
    """Pydantic's list of faults as one error; values that the caller sent are never repeated."""
    errors = tuple(
        {"field": prefix + pointer(fault["loc"]), "detail": str(fault["msg"])} for fault in details
    )
    first = errors[0] if errors else {"field": prefix, "detail": "The request is not valid."}
    return ValidationError(
        f"{first['detail']} (at {first['field'] or 'the body'})",
        field=first["field"] or None,
        errors=errors,
    )


def from_http(error: HTTPException) -> WarplineError:
    """The router's own errors, translated."""
    if isinstance(error.__cause__, WarplineError):
        return error.__cause__
    kinds: dict[int, WarplineError] = {
        404: NotFoundError(
            "There is nothing at this address; see /openapi.json for what there is."
        ),
        405: MethodNotAllowedError(),
        413: BodyTooLargeError(),
        431: HeadersTooLargeError(),
        503: UnavailableError(),
    }
    if error.status_code in kinds:
        return kinds[error.status_code]
    if error.status_code < 500:
        return ValidationError("The request could not be read.")
    return InternalError()


def _request_id(request: Request) -> str | None:
    return getattr(request.state, "request_id", None)


async def _on_warpline(request: Request, error: Exception) -> Response:
    known = error if isinstance(error, WarplineError) else InternalError()
    if known.http_status >= 500:
        logger.error(
            "request failed", extra={"request_id": _request_id(request), "code": known.slug}
        )
    return render(known, _request_id(request))


async def _on_validation(request: Request, error: Exception) -> Response:
    details = error.errors() if isinstance(error, RequestValidationError) else []
    return render(faults([_in_body(fault) for fault in details]), _request_id(request))


def _in_body(fault: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fault with its place within the body, which is what a pointer points into."""
    kind, *where = fault["loc"]
    if kind != "body":
        return fault
    return {**fault, "loc": () if fault["type"] == "json_invalid" else tuple(where)}


async def _on_http(request: Request, error: Exception) -> Response:
    known = from_http(error) if isinstance(error, HTTPException) else InternalError()
    response = render(known, _request_id(request))
    for name in ("Allow",):
        if isinstance(error, HTTPException) and error.headers and name in error.headers:
            response.headers[name] = error.headers[name]
    return response


def install(app: FastAPI) -> None:
    """Make the app answer every error that a route can raise with a problem document."""
    app.add_exception_handler(WarplineError, _on_warpline)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)


def problems(*kinds: type[WarplineError]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: which errors it answers with, by status."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        entry = by_status.setdefault(
            kind.http_status,
            {
                "description": "",
                "content": {
                    MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}
                },
            },
        )
        entry["description"] = " ".join(
            filter(None, [entry["description"], f"`{kind.slug}`: {kind().title}"])
        )
        entry["content"][MEDIA_TYPE]["examples"][kind.slug] = {"value": kind().problem()}
    return by_status
