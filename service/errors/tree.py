"""What every error that leaves Warpline has."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, ClassVar

DEFAULT_RETRY_AFTER_S = 5.0


class WarplineError(Exception):
    """Something went wrong."""

    slug: ClassVar[str] = "error"
    http_status: ClassVar[int] = 500
    grpc_code: ClassVar[str] = "INTERNAL"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        detail: str | None = None,
        *,
        field: str | None = None,
        retry_after_s: float | None = None,
        errors: tuple[dict[str, Any], ...] = (),
    ) -> None:
        """Make an error.

        Args:
            detail: A sentence for the caller; the class's first docstring line when omitted.
            field: The part of the request that is at fault, such as `fixed` or `/options/refine`.
            retry_after_s: When a retry may help, the seconds to wait first.
            errors: Several faults at once, each `{"field": ..., "detail": ...}`.
        """
        self.detail = detail or (type(self).__doc__ or "").strip().splitlines()[0]
        self.field = field
        self.retry_after_s = retry_after_s
        self.errors = errors
        super().__init__(self.detail)

    @property
    def title(self) -> str:
        """What this kind of error is, the same for each of its occurrences."""
        return (type(self).__doc__ or "").strip().splitlines()[0]

    @property
    def wait_s(self) -> float | None:
        """Seconds to wait before the same request is sent again; None where that cannot help."""
        if self.retry_after_s is not None:
            return self.retry_after_s
        return DEFAULT_RETRY_AFTER_S if self.retryable else None

    def problem(self) -> dict[str, Any]:
        """The body of `application/problem+json` (RFC 9457), also stored with a failed job."""
        body: dict[str, Any] = {
            "type": f"urn:warpline:error:{self.slug}",
            "title": self.title,
            "status": self.http_status,
            "code": self.slug,
            "detail": self.detail,
            "retryable": self.retryable,
        }
        if self.field is not None:
            body["field"] = self.field
        if self.errors:
            body["errors"] = list(self.errors)
        return body


@cache
def errors_by_slug() -> Mapping[str, type[WarplineError]]:
    """Every error class by its stable code, derived from the tree."""
    return {kind.slug: kind for kind in _kinds(WarplineError)}


def _kinds(kind: type[WarplineError]) -> Iterator[type[WarplineError]]:
    yield kind
    for narrower in kind.__subclasses__():
        yield from _kinds(narrower)
