"""How long a sender may be silent, and how slow it may be."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.errors import RequestTimeoutError
from service.gateway.limits import SLOWEST_BYTES_PER_S, Silence

MessageT = TypeVar("MessageT")


@dataclass
class Patience(Generic[MessageT]):
    """The messages of a stream, until the sender is silent for too long.

    Only time spent waiting for the sender counts, never time that we take ourselves.
    """

    messages: AsyncIterator[MessageT]
    idle_timeout_s: float
    received: int = 0
    waited_s: float = 0.0

    async def next(self) -> MessageT | None:
        """The next message; None at the stream's end.

        Raises:
            RequestTimeoutError: If nothing arrives.
        """
        try:
            async with Silence(self.idle_timeout_s) as silence:
                message = await anext(self.messages, None)
        except TimeoutError:
            raise RequestTimeoutError(
                f"Nothing arrived for {self.idle_timeout_s:g} s. What was acknowledged is kept: "
                "begin a new call and go on from there."
            ) from None
        self.waited_s += silence.waited_s
        return message

    def count(self, size: int) -> None:
        """Note the bytes that a message brought.

        Raises:
            RequestTimeoutError: If they trickle.
        """
        self.received += size
        patience_s = self.waited_s - self.idle_timeout_s
        if patience_s > 0 and self.received < SLOWEST_BYTES_PER_S * patience_s:
            raise RequestTimeoutError(
                "The file arrives too slowly. What was acknowledged is kept: begin a new call "
                "and go on from there."
            )
