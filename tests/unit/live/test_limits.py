"""How many sessions there may be, whose keys count, what is written down, and how it all ends."""

import asyncio
import hashlib
import json
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from service.errors import ConfigurationError, UnauthenticatedError
from service.keys import Keys
from service.live.probes import Probes
from service.pb import warpline_pb2 as pb
from tests.live_client import LiveClient, frame
from tests.live_fakes import FakeEngines, answered, image, ready, run, serving, target, until, wish
from tests.unit.live.test_refusals import reason

ADA, BOB = "wl_ada", "wl_bob"
KEYS = ",".join(
    f"{name}:{hashlib.sha256(key.encode()).hexdigest()}" for name, key in (("a", ADA), ("b", BOB))
)


async def refused(server, key: str = "", **more: object) -> tuple[str, str]:
    """How a session that is one too many is refused."""
    async with LiveClient(target(server), key) as client:
        await client.send(pb.LiveRequest(open=pb.Open(**wish(**more))))
        return reason(await client.ended())


def test_one_key_may_have_so_many_sessions_and_others_are_not_held_up():
    async def test():
        limits = {"live_sessions_per_key": 1, "live_max_sessions": 2, "api_keys": KEYS}
        async with serving(FakeEngines(), **limits) as server:
            async with LiveClient(target(server), ADA) as ada, LiveClient(target(server), BOB) as b:
                await ready(ada)
                assert await refused(server, ADA) == ("RESOURCE_EXHAUSTED", "live-quota-exceeded")
                await ready(b)
                await ada.send(pb.LiveRequest(close=pb.Close()))
                with pytest.raises(EOFError):
                    await ada.read()
            async with LiveClient(target(server), ADA) as ada:
                await ready(ada)

    run(test())


def test_a_session_is_told_with_how_many_it_shares_the_engine():
    async def test():
        async with serving(FakeEngines()) as server:
            one, two = LiveClient(target(server)), LiveClient(target(server))
            await ready(one)
            await ready(two)
            told = [next(m.ready for m in c.seen if m.HasField("ready")) for c in (one, two)]
            assert list(told[0].warnings) == []
            (warning,) = told[1].warnings
            assert "1 more" in warning
            await one.close()
            await two.close()

    run(test())


def test_the_machine_may_have_so_many_sessions():
    async def test():
        async with (
            serving(FakeEngines(), live_max_sessions=1) as server,
            LiveClient(target(server)) as client,
        ):
            await ready(client)
            assert await refused(server) == ("UNAVAILABLE", "live-full")

    run(test())


@pytest.mark.parametrize(
    ("limit", "code"),
    [("live_memory_per_key_mib", "live-quota-exceeded"), ("live_memory_mib", "live-full")],
)
def test_memory_is_reckoned_before_it_is_taken(limit, code):
    async def test():
        # By hand: reference 0.14, prepared 2 x 73 728 x 16 B = 2.25, five frames 0.7, and eight
        # answers of an image of float32, 2.25 MiB: 5.3 in all.
        async with serving(FakeEngines(), **{limit: 8}) as server:
            async with LiveClient(target(server)) as client:
                await ready(client)
                assert (await refused(server))[1] == code
            async with LiveClient(target(server)) as client:
                small = pb.LiveOutputs(field=pb.FIELD_OUTPUT_NONE)
                assert (await refused(server, outputs=small))[1] == code
        async with (
            serving(FakeEngines(), **{limit: 6}) as server,
            LiveClient(target(server)) as client,
        ):
            await ready(client)

    run(test())


def test_there_may_be_so_many_connections():
    async def test():
        async with (
            serving(FakeEngines(), live_max_connections=1) as server,
            LiveClient(target(server)) as client,
        ):
            await ready(client)
            async with LiveClient(target(server)) as other:
                assert reason(await other.ended()) == ("UNAVAILABLE", "live-full")
            await answered(client, 1)

    run(test())


def test_a_key_that_is_gone_ends_the_connection_and_keeps_the_session(
    monkeypatch, nobody_is_silent
):
    async def test():
        limits = {"api_keys": KEYS, "live_idle_timeout_s": 0.4}
        async with serving(FakeEngines(), **limits) as server:
            async with LiveClient(target(server), ADA) as client:
                opened = await ready(client)
                with monkeypatch.context() as patch:
                    patch.setattr(Keys, "owner", nobody)
                    closed = (await client.expect("closed")).closed
                assert (closed.problem.code, closed.is_kept) == ("unauthenticated", True)
                assert reason(await client.ended())[0] == "UNAUTHENTICATED"
            async with LiveClient(target(server), ADA) as client:
                await client.open(session_id=opened.session_id)
                await answered(client, 1)

    with nobody_is_silent():
        run(test())


def nobody(_keys: Keys, _key: str) -> str:
    raise UnauthenticatedError


def test_the_audit_log_says_who_had_what_and_when(tmp_path):
    log = tmp_path / "deep" / "audit.jsonl"

    async def test():
        async with serving(FakeEngines(), api_keys=KEYS, audit_file=log) as server:
            async with LiveClient(target(server), BOB) as client:
                session = (await ready(client, points=[pb.Point(x=12345.5)])).session_id
                await answered(client, 1)
                await client.send(pb.LiveRequest(close=pb.Close()))
                with pytest.raises(EOFError):
                    await client.read()
            assert (await refused(server, BOB, role=0))[1] == "validation-failed"
        return session

    session = asyncio.run(test())
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    steps = ["live.opened", "live.ready", "live.ended", "live.refused"]
    assert [line["did"] for line in lines] == steps
    assert {line["who"] for line in lines} == {"b"}
    told = [line["what"] for line in lines]
    assert {one["session"] for one in told[:3]} == {session}
    assert told[0]["reference_shape"] == [64, 48, 24]
    assert (told[2]["reason"], told[2]["answered"]) == ("closed", 1)
    assert lines[3]["outcome"] == "validation-failed"
    assert "12345" not in log.read_text()


def page(port: int, path: str) -> tuple[int, str]:
    url = f"http://127.0.0.1:{port}{path}"
    assert urlsplit(url).scheme == "http"
    try:
        with urllib.request.urlopen(url, timeout=60) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, ""


def test_probes_and_metrics_tell_how_it_fares():
    async def test():
        engines = FakeEngines()
        async with serving(engines) as server, LiveClient(target(server)) as client:
            await ready(client, policy=pb.FRAME_POLICY_LATEST)
            await answered(client, 1)
            await client.send(*frame(1, image(1)))
            await client.expect("refused")
            assert page(server.http_port, "/healthz")[0] == 200
            assert page(server.http_port, "/readyz")[0] == 200
            assert page(server.http_port, "/none-such")[0] == 404
            text = page(server.http_port, "/metrics")[1]
            assert 'warpline_live_sessions{state="ready"} 1.0' in text
            assert 'warpline_live_frames_total{outcome="answered"} 1.0' in text
            assert 'warpline_live_frames_refused_total{reason="frame-out-of-order"} 1.0' in text
            assert 'warpline_live_stage_seconds_count{stage="wait"} 1.0' in text
            assert "warpline_live_latency_seconds_count 1.0" in text
            assert "warpline_grpc_open_calls" in text

    run(test())


def test_a_stop_finishes_the_running_frame_and_tells_every_session():
    async def test():
        engines = FakeEngines()
        async with serving(engines) as server, LiveClient(target(server)) as client:
            await ready(client)
            async with grpc.aio.insecure_channel(target(server)) as channel:
                stub = health_pb2_grpc.HealthStub(channel)
                asked = health_pb2.HealthCheckRequest(service="warpline.v1.LiveService")
                assert (await stub.Check(asked)).status == health_pb2.HealthCheckResponse.SERVING
            engines.gate.clear()
            await client.send(*frame(1, image(1)), *frame(2, image(2)))
            await until(engines.entered.is_set)
            stopping = asyncio.create_task(server.stop())
            await until(lambda: page(server.http_port, "/readyz")[0] == 503)
            engines.gate.set()
            assert (await client.answer())[0].number == 1
            closed = (await client.expect("closed", "answer")).closed
            assert (closed.problem.code, closed.is_kept) == ("live-stopping", False)
            assert reason(await client.ended()) == ("UNAVAILABLE", "live-stopping")
            await stopping

    run(test())


def test_a_grpc_port_that_is_taken_is_said_so():
    async def test():
        async with serving(FakeEngines()) as server:
            with pytest.raises(ConfigurationError, match="WARPLINE_LIVE_PORT"):
                async with serving(FakeEngines(), live_port=server.port):
                    pass

    run(test())


def test_a_port_that_is_taken_is_said_so():
    first = Probes("127.0.0.1", 0, lambda: True, lambda: b"")
    try:
        with pytest.raises(ConfigurationError, match="WARPLINE_LIVE_HTTP_PORT"):
            Probes("127.0.0.1", first.port, lambda: True, lambda: b"")
    finally:
        first.close()
