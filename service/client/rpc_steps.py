"""What the gRPC client asks of the network, as data; see `steps` for the idea.

A flow yields `Ask` (one request, one answer), `Pause`, or a `Talk`, a stream that the driver
carries on until it ends. The driver sends back the answer, `Ended`, or `Failed`.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from google.protobuf.message import Message

from service.client.steps import Pause
from service.errors import WarplineError

T = TypeVar("T")


@dataclass(frozen=True)
class Ask:
    """A call with one request and one answer. It fails after `timeout_s`."""

    method: str
    request: Message
    timeout_s: float = 120.0


@dataclass(frozen=True)
class Failed:
    """A call ended with an error; `is_lost`: the connection broke, or never stood."""

    error: WarplineError
    is_lost: bool = False


class Talk:
    """A stream without its I/O.

    The driver asks for requests while it may, hands over each response, and never does both at
    once.
    """

    method: ClassVar[str]
    request: Message | None = None
    """The only request, of methods that take one and answer with a stream."""

    failure: Failed | None = None
    """Why it ended early; the driver sets it."""
    stop: Callable[[], object] = staticmethod(lambda: None)
    """Ends the call from another thread; the driver sets it."""

    def next_request(self) -> Message | None:
        """What may be sent now; None when a response must come first, or all is said."""
        return None

    @property
    def has_said_all(self) -> bool:
        """Whether there will be no further request."""
        return True

    def take(self, response: Any) -> bool:
        """Read a response; False when no more is wanted: the driver then ends the call."""
        raise NotImplementedError

    def close(self) -> None:
        """Give back what it holds; the driver calls this whatever happened."""


@dataclass(frozen=True)
class Ended:
    """A stream ended well, or because no more was wanted."""


Outcome = Message | Ended | Failed
RpcFlow = Generator[Ask | Talk | Pause, Outcome, T]
