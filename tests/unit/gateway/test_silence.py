"""What a sender has sent counts, also when nobody had time to look at it."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from service.errors import RequestTimeoutError
from service.gateway.limits import BodyGuard, Silence
from service.gateway.rpc.patience import Patience

SHORT_S = 0.1
Wait = Callable[[Awaitable[bytes]], Awaitable[float]]


async def _by_silence(reading: Awaitable[bytes]) -> float:
    async with Silence(SHORT_S) as silence:
        await reading
    return silence.waited_s


async def _by_body(reading: Awaitable[bytes]) -> float:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": await reading, "more_body": True}

    guard = BodyGuard(receive, 1000, SHORT_S)
    await guard()
    return guard.waited_s


async def _by_stream(reading: Awaitable[bytes]) -> float:
    async def messages() -> AsyncIterator[bytes]:
        yield await reading

    patience = Patience(messages(), SHORT_S)
    assert await patience.next() == b"here"
    return patience.waited_s


@pytest.mark.parametrize("wait", [_by_silence, _by_body, _by_stream])
def test_what_came_while_the_process_was_held_up_is_heard(wait: Wait) -> None:
    async def serve() -> float:
        theirs, ours = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)

        def held_up() -> None:
            theirs.send(b"here")
            time.sleep(5 * SHORT_S)

        asyncio.get_running_loop().call_soon(held_up)
        try:
            return await wait(reader.read(100))
        finally:
            theirs.close()
            writer.close()
            await writer.wait_closed()

    assert asyncio.run(serve()) <= SHORT_S  # nor does it count against the sender


@pytest.mark.parametrize("wait", [_by_body, _by_stream])
def test_silence_ends_the_wait(wait: Wait) -> None:
    with pytest.raises(RequestTimeoutError, match=r"Nothing arrived for 0.1 s"):
        asyncio.run(wait(asyncio.sleep(600, b"late")))  # type: ignore[arg-type]


def test_who_is_cancelled_by_another_is_not_told_of_a_time_out() -> None:
    async def cancelled() -> None:
        task = asyncio.ensure_future(_by_silence(asyncio.sleep(600, b"late")))
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())
