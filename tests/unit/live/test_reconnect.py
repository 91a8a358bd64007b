"""A session outlives its connection, for a while, for its owner only, and leaves nothing behind."""

import gc
import hashlib
import weakref
from types import SimpleNamespace

import grpc
import pytest

from service.errors import SessionIdleError
from service.live import connection
from service.pb import warpline_pb2 as pb
from tests.live_client import LiveClient, chunks, frame
from tests.live_fakes import (
    FAIL_AT,
    FakeEngines,
    answered,
    image,
    ready,
    run,
    serving,
    target,
    until,
    wish,
)
from tests.unit.live.test_refusals import reason

ADA, BOB = "wl_ada", "wl_bob"
KEYS = ",".join(
    f"{n}:{hashlib.sha256(k.encode()).hexdigest()}" for n, k in (("ada", ADA), ("bob", BOB))
)


async def broken_off(server, engines: FakeEngines, numbers=(1, 2, 3)) -> str:
    """A session whose connection broke after these answers."""
    async with LiveClient(target(server)) as client:
        opened = await ready(client)
        for number in numbers:
            await answered(client, number)
    await until(lambda: not any(session.listener for session in server.sessions.all()))
    return opened.session_id


def test_a_session_goes_on_where_it_was_without_its_reference():
    async def test():
        engines = FakeEngines()
        async with serving(engines) as server:
            session_id = await broken_off(server, engines)
            async with LiveClient(target(server)) as client:
                opened = await client.open(session_id=session_id, last_answer=3)
                assert (opened.is_resumed, opened.last_frame) == (True, 3)
                assert opened.received_bytes == image(1).nbytes
                assert opened.credit == 4
                assert (await client.expect("ready")).ready.expected_p95_ms == 20
                await answered(client, 4)
            assert len(engines.trackers) == 1, "the reference was prepared once"

    run(test())


@pytest.mark.parametrize(("seen", "again"), [({"last_answer": 1}, [2, 3]), ({}, [1, 2, 3])])
def test_answers_that_were_not_seen_come_again(seen, again):
    async def test():
        engines = FakeEngines()
        async with serving(engines) as server:
            session_id = await broken_off(server, engines)
            async with LiveClient(target(server)) as client:
                await client.open(session_id=session_id, **seen)
                assert [(await client.answer())[0].number for _ in again] == again
                await answered(client, 4)
            assert len(engines.steps) == 4

    run(test())


def test_only_so_many_answers_are_kept():
    async def test():
        engines = FakeEngines()
        async with serving(engines, live_kept_answers=2) as server:
            session_id = await broken_off(server, engines)
            async with LiveClient(target(server)) as client:
                await client.open(session_id=session_id)
                assert [(await client.answer())[0].number for _ in range(2)] == [2, 3]
                await answered(client, 4)

    run(test())


def test_frames_that_had_arrived_are_answered_on_the_next_connection():
    async def test():
        engines = FakeEngines()
        async with serving(engines) as server:
            async with LiveClient(target(server)) as client:
                opened = await ready(client)
                engines.gate.clear()
                await client.send(*frame(1, image(1)), *frame(2, image(FAIL_AT)))
                await client.send(pb.LiveRequest(frame=pb.FrameStart(number=3)))
                await client.send(pb.LiveRequest(heartbeat=pb.Heartbeat(nonce=1)))
                await client.expect("heartbeat")
            await until(lambda: server.sessions.all()[0].listener is None)
            engines.gate.set()
            await until(lambda: server.sessions.all()[0].untold)
            async with LiveClient(target(server)) as client:
                await client.open(session_id=opened.session_id, last_answer=0)
                refused = (await client.expect("refused")).refused
                assert (refused.number, refused.problem.code) == (2, "model-not-found")
                assert (await client.answer())[0].number == 1
                # The third one was cut off: it may be sent again.
                await answered(client, 3)

    run(test())


def test_a_reference_is_sent_on_from_where_it_broke():
    async def test():
        async with serving(FakeEngines()) as server:
            sent = image(5, (128, 96, 64))
            parts = list(chunks(sent, pb.VOXEL_TARGET_REFERENCE))
            header = pb.ArrayHeader(grid=wish()["reference"].grid, voxel_type=2)
            header.grid.shape[:] = sent.shape
            async with LiveClient(target(server)) as client:
                opened = await client.open(**wish(reference=header))
                await client.send(parts[0], pb.LiveRequest(heartbeat=pb.Heartbeat()))
                await client.expect("heartbeat")
            async with LiveClient(target(server)) as client:
                again = await client.open(session_id=opened.session_id)
                assert again.received_bytes == 1 << 20
                await client.send(*parts[1:])
                await client.expect("ready")

    run(test())


def test_a_wrong_checksum_in_the_reference_can_be_mended_on_another_connection():
    async def test():
        async with serving(FakeEngines()) as server:
            (part,) = chunks(image(5), pb.VOXEL_TARGET_REFERENCE)
            async with LiveClient(target(server)) as client:
                opened = await client.open(**wish())
                wrong = pb.LiveRequest.FromString(part.SerializeToString())
                wrong.chunk.crc32 ^= 1
                await client.send(wrong)
                assert (await client.expect("closed")).closed.is_kept
                assert reason(await client.ended()) == ("DATA_LOSS", "checksum-mismatch")
            async with LiveClient(target(server)) as client:
                await client.open(session_id=opened.session_id)
                await client.send(part)
                await client.expect("ready")

    run(test())


def test_the_newer_connection_takes_a_session_over():
    async def test():
        async with (
            serving(FakeEngines()) as server,
            LiveClient(target(server)) as old,
            LiveClient(target(server)) as new,
        ):
            session_id = (await ready(old)).session_id
            await new.open(session_id=session_id)
            closed = (await old.expect("closed")).closed
            assert (closed.problem.code, closed.is_kept) == ("session-taken-over", True)
            assert reason(await old.ended()) == ("ABORTED", "session-taken-over")
            await answered(new, 1)

    run(test())


def test_another_owners_session_is_not_found():
    async def test():
        async with serving(FakeEngines(), api_keys=KEYS) as server:
            async with (
                LiveClient(target(server), ADA) as ada,
                LiveClient(target(server), BOB) as bob,
            ):
                session_id = (await ready(ada)).session_id
                await bob.send(pb.LiveRequest(open=pb.Open(session_id=session_id)))
                assert reason(await bob.ended()) == ("NOT_FOUND", "session-not-found")
                await answered(ada, 1)
            async with LiveClient(target(server)) as nobody:
                assert reason(await nobody.ended()) == ("UNAUTHENTICATED", "unauthenticated")

    run(test())


def test_a_session_without_a_connection_expires_and_its_memory_is_given_back():
    async def test():
        engines = FakeEngines()
        async with serving(engines, live_ttl_s=0.01) as server:
            session_id = await broken_off(server, engines)
            await until(lambda: not server.sessions.all())
            await nothing_is_left(engines)
            async with LiveClient(target(server)) as client:
                await client.send(pb.LiveRequest(open=pb.Open(session_id=session_id)))
                assert reason(await client.ended())[1] == "session-not-found"

    run(test())


def test_close_gives_the_memory_back_and_stops_the_frame_that_is_registered():
    async def test():
        engines = FakeEngines()
        async with serving(engines) as server, LiveClient(target(server)) as client:
            await ready(client)
            engines.gate.clear()
            await client.send(*frame(1, image(1)))
            await until(engines.entered.is_set)
            await client.send(pb.LiveRequest(close=pb.Close()))
            with pytest.raises(EOFError):
                await client.expect("answer")
            # The gate stays shut: only the watch can have stopped the tracker.
            await nothing_is_left(engines)

    run(test())


async def nothing_is_left(engines: FakeEngines) -> None:
    """Tracker and reference are gone: nobody holds them any more."""
    tracker = engines.trackers.pop()
    gone = [weakref.ref(tracker), weakref.ref(tracker.reference.image.data)]
    del tracker

    def is_gone() -> bool:
        gc.collect()
        return not any(ref() is not None for ref in gone)

    await until(is_gone)


def test_a_client_that_goes_away_in_the_middle_of_an_answer_is_no_defect(caplog):
    shape = (128, 128, 64)

    async def test():
        large = pb.ArrayHeader(grid=wish()["frame"].grid, voxel_type=2)
        large.grid.shape[:] = shape
        async with serving(FakeEngines()) as server:
            for _ in range(10):
                client = LiveClient(target(server))
                await client.open(**wish(reference=large, frame=large))
                await client.send(*chunks(image(1, shape), pb.VOXEL_TARGET_REFERENCE))
                await client.send(*frame(1, image(1, shape)), *frame(2, image(2, shape)))
                await client.expect("chunk")
                await client.close()
                await until(lambda: not any(s.listener for s in server.sessions.all()))
                for session in server.sessions.all():
                    session.end()

    run(test())
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_call_that_is_cancelled_leaves_its_session():
    async def test():
        async with serving(FakeEngines()) as server:
            client = LiveClient(target(server))
            await ready(client)
            client.call.cancel()
            await until(lambda: server.sessions.all()[0].listener is None)
            assert [session.state for session in server.sessions.all()] == ["ready"]
            await client.close()

    run(test())


def test_silence_is_as_many_looks_whatever_time_they_take(monkeypatch):
    naps = []

    async def nap(seconds):
        naps.append(seconds)
        if len(naps) == 5:
            watched._silent_looks = 0  # something was heard
        assert len(naps) < 99

    desk = SimpleNamespace(idle_timeout_s=20.0)
    watched = connection.Connection(None, desk, "ada", lambda: None)
    monkeypatch.setattr(connection, "asyncio", SimpleNamespace(sleep=nap))
    with pytest.raises(SessionIdleError):
        run(watched._watch())
    assert naps == [2.5] * (4 + 9)


def test_a_silent_client_is_cut_and_its_session_kept(nobody_is_silent):
    async def test():
        async with serving(FakeEngines(), live_idle_timeout_s=0.2) as server:
            async with LiveClient(target(server)) as client:
                with nobody_is_silent():
                    opened = await ready(client)
                closed = (await client.expect("closed")).closed
                assert (closed.problem.code, closed.is_kept) == ("session-idle", True)
                error = await client.ended()
                assert reason(error) == ("DEADLINE_EXCEEDED", "session-idle")
                assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            with nobody_is_silent():
                async with LiveClient(target(server)) as client:
                    await client.open(session_id=opened.session_id)
                    await answered(client, 1)

    run(test())


def test_a_client_that_reads_nothing_is_let_go_and_goes_on_later(monkeypatch, nobody_is_silent):
    monkeypatch.setattr(connection, "GOODBYE_S", 0.1)
    shape = (128, 128, 64)

    async def test():
        large = pb.ArrayHeader(grid=wish()["frame"].grid, voxel_type=2)
        large.grid.shape[:] = shape
        async with serving(FakeEngines(), live_idle_timeout_s=0.5) as server:
            client = LiveClient(target(server))
            with nobody_is_silent():
                opened = await client.open(**wish(reference=large, frame=large))
                await client.send(*chunks(image(1, shape), pb.VOXEL_TARGET_REFERENCE))
                await client.expect("ready")
                for number in range(1, 5):  # each answer has 4 MiB, and nobody reads them
                    await client.send(*frame(number, image(number, shape)))
                session = server.sessions.all()[0]
                await until(lambda: session.answered == 4)
            await until(lambda: session.listener is None)
            async with LiveClient(target(server)) as again:
                with nobody_is_silent():
                    await again.open(session_id=opened.session_id)
                    assert [(await again.answer())[0].number for _ in range(4)] == [1, 2, 3, 4]
            await client.close()

    run(test())
