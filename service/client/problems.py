"""The server's problem documents, raised as the classes of `service.errors`."""

import json
from collections.abc import Mapping
from typing import Any

from service.errors import UnavailableError, WarplineError
from service.errors.tree import errors_by_slug


def error_of(problem: Mapping[str, Any], retry_after_s: float | None = None) -> WarplineError:
    """The error that a problem document tells; `WarplineError` for a code of a newer server."""
    kind = errors_by_slug().get(str(problem.get("code")), WarplineError)
    return kind(
        str(problem["detail"]) if problem.get("detail") else None,
        field=problem.get("field"),
        retry_after_s=retry_after_s,
        errors=tuple(problem.get("errors") or ()),
    )


def error_of_reply(status: int, body: bytes, retry_after_s: float | None) -> WarplineError:
    """The error behind a reply that is not a success, also one that a proxy in between made."""
    try:
        problem = json.loads(body)
    except ValueError:
        problem = None
    if isinstance(problem, dict) and "code" in problem:
        return error_of(problem, retry_after_s)
    if status in (502, 503, 504):
        return UnavailableError(f"The server answered {status}.", retry_after_s=retry_after_s)
    return WarplineError(f"The server answered {status} without saying why. Is this Warpline?")
