"""What the client asks of the network, as data: the sync and the async client only carry it out.

A flow is a generator. It yields steps; a driver carries each out and sends back a `Reply`, or
`Lost` when the connection broke. The flow returns the answer.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from service.client.views import Job

T = TypeVar("T")


@dataclass(frozen=True)
class Call:
    """One HTTP request. `files` are sent as parts of a form, beside `form`'s text fields."""

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    content: bytes | None = None
    form: Mapping[str, str] | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    save_to: Path | None = None
    """Where the body goes: appended after a 206, else written anew."""

    @property
    def is_to_the_api(self) -> bool:
        """Whether the API key goes along; never to the addresses of signed URLs."""
        return self.path.startswith("/v1/")


@dataclass(frozen=True)
class Pause:
    """Wait before the next step."""

    seconds: float


@dataclass(frozen=True)
class Tell:
    """Show the caller how far a job is."""

    job: Job


@dataclass(frozen=True)
class Reply:
    """An answer; `headers` in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def retry_after_s(self) -> float | None:
        """What `Retry-After` says, where it gives seconds."""
        value = self.headers.get("retry-after", "")
        return float(value) if value.isdigit() else None


@dataclass(frozen=True)
class Lost:
    """The connection broke, or never stood."""

    reason: str


Step = Call | Pause | Tell
Flow = Generator[Step, Reply | Lost, T]
