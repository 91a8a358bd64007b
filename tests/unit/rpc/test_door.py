"""The door before a server of any face: who gets in, how many at once, and how calls end."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest

from service.errors import WarplineError
from service.keys import Keys, Rates
from service.rpc.calls import caller, current_call
from service.rpc.door import Door
from service.rpc.metrics import CallMetrics
from service.rpc.server import bind, make_server, stop
from service.rpc.status import error_of

KEY = "wl_ada-key"
KEYS = Keys((("ada", hashlib.sha256(KEY.encode()).hexdigest()),))
ADA = (("authorization", f"Bearer {KEY}"),)


async def tell(_request: bytes, _context: Any) -> bytes:
    await asyncio.sleep(0)
    return f"{caller()} {current_call().request_id}".encode()


async def wait(requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
    yield caller().encode()
    async for _ in requests:
        raise KeyError("a patient's name")


METHODS = {
    "Tell": grpc.unary_unary_rpc_method_handler(tell),
    "Wait": grpc.stream_stream_rpc_method_handler(wait),
}


def met(
    talk: Callable[[grpc.aio.Channel], Awaitable[None]], **chosen: Any
) -> Callable[[str], float | None]:
    """Let somebody talk to a server behind a door; gives its figures."""
    metrics = CallMetrics()

    async def run() -> None:
        door = Door(KEYS, Rates(100_000), metrics, **chosen)
        server = make_server(door)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("test.Service", METHODS),)
        )
        port = bind(server, "127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                await talk(channel)
        finally:
            await stop(server, 1.0)

    asyncio.run(run())
    return lambda method: metrics.registry.get_sample_value(
        "warpline_grpc_open_calls", {"method": method}
    )


async def refused(call: Any) -> WarplineError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return error_of(caught.value)


def test_a_method_knows_whose_call_it_answers() -> None:
    async def talk(channel: grpc.aio.Channel) -> None:
        method = channel.unary_unary("/test.Service/Tell")
        calls = [method(b"", metadata=ADA) for _ in range(20)]
        told = [(await call).decode().split() for call in calls]
        assert {owner for owner, _ in told} == {"ada"}
        assert len({request_id for _, request_id in told}) == 20
        sent = [dict(await call.trailing_metadata())["x-request-id"] for call in calls]
        assert sent == [request_id for _, request_id in told]
        assert (await refused(method(b""))).slug == "unauthenticated"

    assert met(talk)("/test.Service/Tell") == 0


def test_an_id_that_a_gateway_gave_is_kept_and_nothing_else() -> None:
    ours = "6f1f0c1e-54a9-4d0c-9d5f-0d4f4f0e7c11"

    async def talk(channel: grpc.aio.Channel) -> None:
        method = channel.unary_unary("/test.Service/Tell")
        kept = (await method(b"", metadata=(*ADA, ("x-request-id", ours)))).decode()
        assert kept == f"ada {ours}"
        other = (await method(b"", metadata=(*ADA, ("x-request-id", "Erika")))).decode()
        assert "Erika" not in other

    met(talk)


def test_one_key_has_so_many_calls_open_and_gets_the_place_back() -> None:
    async def talk(channel: grpc.aio.Channel) -> None:
        method = channel.stream_stream("/test.Service/Wait")
        held = [method(metadata=ADA) for _ in range(3)]
        assert [await call.read() for call in held] == [b"ada"] * 3
        one_more = await refused(channel.unary_unary("/test.Service/Tell")(b"", metadata=ADA))
        assert (one_more.slug, one_more.wait_s) == ("too-many-calls", 1.0)
        await held[0].done_writing()
        assert await held[0].read() is grpc.aio.EOF
        assert await channel.unary_unary("/test.Service/Tell")(b"", metadata=ADA)
        for call in held[1:]:
            call.cancel()

    assert met(talk, most_per_key=3)("/test.Service/Wait") == 0


def test_a_defect_amid_a_stream_is_told_as_one(caplog: pytest.LogCaptureFixture) -> None:
    async def talk(channel: grpc.aio.Channel) -> None:
        call = channel.stream_stream("/test.Service/Wait")(metadata=ADA)
        assert await call.read() == b"ada"
        await call.write(b"x")
        assert (await refused(call.read())).slug == "internal"

    met(talk)
    assert "KeyError" in caplog.text
    assert "patient" not in caplog.text


def test_an_answer_that_could_not_be_written_is_no_defect(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(_request: bytes, _context: Any) -> bytes:
        raise grpc.aio.InternalError("the client went away")

    monkeypatch.setitem(METHODS, "Tell", grpc.unary_unary_rpc_method_handler(gone))

    async def talk(channel: grpc.aio.Channel) -> None:
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.unary_unary("/test.Service/Tell")(b"", metadata=ADA)

    assert met(talk)("/test.Service/Tell") == 0
    assert not [record for record in caplog.records if record.name == "service.rpc.door"]
