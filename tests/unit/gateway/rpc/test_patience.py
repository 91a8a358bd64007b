"""A sender may think, but not hold a place for ever."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from service.errors import RequestTimeoutError
from service.gateway.rpc.patience import Patience


async def messages(*pauses_s: float) -> AsyncIterator[str]:
    for pause_s in pauses_s:
        await asyncio.sleep(pause_s)
        yield "message"


def test_messages_come_through_until_the_stream_ends() -> None:
    async def read() -> list[str | None]:
        patience = Patience(messages(0, 0), 120.0)
        return [await patience.next() for _ in range(3)]

    assert asyncio.run(read()) == ["message", "message", None]


def test_silence_is_an_error_and_the_stream_is_closed() -> None:
    async def read() -> None:
        patience = Patience(messages(600), 0.01)
        with pytest.raises(RequestTimeoutError, match="acknowledged is kept"):
            await patience.next()

    asyncio.run(read())


def test_a_trickle_is_an_error_only_after_a_while() -> None:
    patience: Patience[str] = Patience(messages(), 10.0)
    patience.waited_s = 9.0
    patience.count(1)
    patience.waited_s = 12.0
    with pytest.raises(RequestTimeoutError, match="too slowly"):
        patience.count(1)
    patience.count(3000)
