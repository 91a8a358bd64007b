"""How much one caller may take: bytes a body, seconds of silence, disk."""

import asyncio
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from starlette.types import Message, Receive, Scope

from service.errors import (
    BodyTooLargeError,
    RequestTimeoutError,
    StorageFullError,
)

MIB = 2**20
JSON_BODY_BYTES = MIB
# After the first idle time-out a sender must keep this pace on average, or it holds a place for
# others with one byte now and then.
SLOWEST_BYTES_PER_S = 1024
# In the time for which a sender may be silent.
LOOKS = 8


def require_room(folder: Path, min_free_mib: int, wanted_bytes: int = 0) -> None:
    """Refuse new files while the disk is nearly full.

    Raises:
        StorageFullError: If less than the reserve would stay free.
    """
    free = shutil.disk_usage(folder).free
    if free - wanted_bytes < min_free_mib * MIB:
        raise StorageFullError(
            "The service's disk is nearly full, so it takes no new files for now; "
            "results that are there can still be fetched.",
            retry_after_s=60,
        )


class Silence:
    """Ends by TimeoutError what waits for a sender who has said nothing for so long.

    Counted in looks, and not read from a clock: a process that was held up hears what has come
    meanwhile before it looks again.
    """

    def __init__(self, most_s: float) -> None:
        """Nothing is waited for yet; to be used with `async with`, once."""
        self._step_s, self._looks = most_s / LOOKS, 0
        self._timeout = asyncio.timeout(None)
        self._loop = asyncio.get_running_loop()

    async def __aenter__(self) -> Self:
        self._began = time.monotonic()
        self._next = self._loop.call_later(self._step_s, self._look)
        await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._next.cancel()
        await self._timeout.__aexit__(kind, fault, trace)

    def _look(self) -> None:
        self._looks += 1
        if self._looks < LOOKS:
            self._next = self._loop.call_later(self._step_s, self._look)
        else:
            self._timeout.reschedule(self._loop.time())

    @property
    def waited_s(self) -> float:
        """How long the sender was waited for since the beginning; not what held us up."""
        return min(time.monotonic() - self._began, (self._looks + 1) * self._step_s)


@dataclass
class BodyGuard:
    """Wraps a request's `receive`: counts its bytes and loses patience with a silent sender.

    Only time spent waiting for the sender counts, never time that we take ourselves.
    """

    receive: Receive
    limit_bytes: int
    idle_timeout_s: float
    received: int = 0
    waited_s: float = 0.0
    complete: bool = False

    async def __call__(self) -> Message:
        if self.complete:  # what follows is the wait for a disconnect, which may take for ever
            return await self.receive()
        try:
            async with Silence(self.idle_timeout_s) as silence:
                message = await self.receive()
        except TimeoutError:
            raise RequestTimeoutError(
                f"Nothing arrived for {self.idle_timeout_s:g} s; send the body without pauses, "
                "or use /v1/uploads, where a broken transfer goes on from its last byte."
            ) from None
        self.waited_s += silence.waited_s
        if message["type"] == "http.request":
            self._count(message)
        return message

    def _count(self, message: Message) -> None:
        self.received += len(message.get("body", b""))
        self.complete = not message.get("more_body", False)
        if self.received > self.limit_bytes:
            raise too_large(self.limit_bytes)
        patience_s = self.waited_s - self.idle_timeout_s
        if patience_s > 0 and self.received < SLOWEST_BYTES_PER_S * patience_s:
            raise RequestTimeoutError("The body arrives too slowly.")


def too_large(limit_bytes: int) -> BodyTooLargeError:
    """The error for a body beyond the limit of its route."""
    return BodyTooLargeError(
        f"This address takes bodies of up to {limit_bytes / MIB:g} MiB; "
        "send larger files through /v1/uploads."
    )


def announced_bytes(scope: Scope) -> int | None:
    """The request's Content-Length, None when it has none or it is not a number."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return None
