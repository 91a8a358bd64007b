"""Both live sessions against the live server with a toy engine, over a wire that breaks."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from service.client import AsyncLiveSession, LiveSession
from service.errors import (
    BudgetTooShortError,
    FrameMismatchError,
    InvalidRequestError,
    ModelNotFoundError,
    NoContrastError,
    UnavailableError,
)
from service.live.connection import LOOKS, Connection
from tests.fakes.breaking_wire import BreakingWire
from tests.live_fakes import AFFINE, SHAPE, FakeEngines, image, run, serving, until

PATIENCE_S = 120  # with a machine that is busy with something else
LABELS = np.indices(SHAPE).sum(axis=0) % 5


class Awaited:
    """A LiveSession whose methods are awaited, each in a thread, as those of the other one."""

    def __init__(self, *given: Any, **terms: Any) -> None:
        self._session = LiveSession(*given, **terms)

    async def __aenter__(self) -> "Awaited":
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._session.close)

    async def answers(self) -> AsyncIterator[Any]:
        while (answer := await self.next_answer()) is not None:
            yield answer

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._session, name)
        if not callable(found) or name == "finish":
            return found

        async def call(*given: Any, **options: Any) -> Any:
            return await asyncio.to_thread(found, *given, **options)

        return call


@pytest.fixture(params=[Awaited, AsyncLiveSession], ids=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return request.param


@asynccontextmanager
async def wired(engines: FakeEngines, **settings: Any) -> AsyncIterator[tuple[Any, BreakingWire]]:
    async with serving(engines, **settings) as server:
        wire = BreakingWire(server.port)
        try:
            yield server, wire
        finally:
            wire.close()


def session(kind: Any, wire: BreakingWire, **terms: Any) -> Any:
    chosen = {"warped_image": True, "policy": "every", "role": "fixed"} | terms
    return kind(f"grpc://127.0.0.1:{wire.port}", image(1), AFFINE, **chosen)


async def collect(opened: Any) -> list[Any]:
    """The rest of the answers, all frames having been sent."""
    opened.finish()
    async with asyncio.timeout(PATIENCE_S):
        return [answer async for answer in opened.answers()]


def test_every_frame_is_answered_with_what_was_asked_for(kind):
    async def test():
        async with wired(FakeEngines()) as (_, wire):
            points = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
            terms = {"role": "moving", "labels": LABELS, "points": points, "field": "full"}
            async with session(kind, wire, **terms) as opened:
                ready = await opened.wait_until_ready(PATIENCE_S)
                assert ready.expected_p95_ms == 20
                at = datetime(2026, 11, 26, 10, 30, tzinfo=UTC)
                for number in range(1, 7):
                    frame = image(number)
                    assert await opened.send(frame, acquired_at=at) == number
                    frame[:] = 0  # ours again
                found = await collect(opened)
            assert [answer.number for answer in found] == [1, 2, 3, 4, 5, 6]
            answer = found[2]
            np.testing.assert_array_equal(answer.warped_image.data, image(3))
            np.testing.assert_array_equal(answer.warped_labels.data, LABELS)
            np.testing.assert_array_equal(answer.warped_labels.affine, AFFINE)
            assert answer.field.data.shape == (*SHAPE, 3)
            np.testing.assert_array_equal(answer.points, points)
            assert (answer.affine[0, 3], answer.verdict) == (1, "warn")
            assert (answer.shift_mm.tolist(), answer.rotation_deg) == ([1, 2, 3], 4)
            assert (answer.reasons, answer.acquired_at) == (("as a test",), at)
            assert answer.stages_ms["warp"] == pytest.approx(2)
            assert answer.round_trip_ms >= answer.latency_ms

    run(test())


def test_the_latest_frame_overtakes_those_that_wait(kind):
    async def test():
        engines = FakeEngines()
        async with wired(engines) as (_, wire), session(kind, wire, policy="latest") as opened:
            await opened.wait_until_ready(PATIENCE_S)
            engines.gate.clear()
            for number in range(1, 21):
                await opened.send(image(number))
            engines.gate.set()
            found = [answer.number for answer in await collect(opened)]
            counters = opened.counters
            assert found[-1] == 20
            assert found == sorted(found)
            assert counters.answered == len(found) < 20
            assert counters.answered + counters.overtaken + counters.dropped == 20
            assert counters.percentiles_ms(50, 95)[0] > 0

    run(test())


@pytest.mark.parametrize("policy", ["every", "latest"])
def test_a_broken_connection_goes_on_where_it_was(kind, policy):
    async def test():
        async with wired(FakeEngines()) as (_, wire):
            async with session(kind, wire, policy=policy) as opened:
                await opened.wait_until_ready(PATIENCE_S)
                found = []
                for number in range(1, 13):
                    await opened.send(image(number))
                    if number % 4 == 0:
                        wire.cut()
                    elif number % 4 == 1:
                        found.append(await opened.next_answer(PATIENCE_S))
                found += await collect(opened)
            numbers = [answer.number for answer in found]
            assert numbers[-1] == 12
            if policy == "every":
                assert numbers == list(range(1, 13))
            for answer in found:
                np.testing.assert_array_equal(answer.warped_image.data, image(answer.number))
            assert opened.counters.reconnects >= 1
            assert opened.counters.reopened == 0

    run(test())


@pytest.mark.parametrize("up", [40_000, 147_456 + 60_000, 147_456 + 200_000])
def test_the_reference_or_a_frame_that_broke_off_is_sent_on(kind, up):
    async def test():
        async with wired(FakeEngines()) as (_, wire):
            wire.up[:] = [up]
            async with session(kind, wire) as opened:
                await opened.wait_until_ready(PATIENCE_S)
                for number in (1, 2):
                    await opened.send(image(number))
                assert [answer.number for answer in await collect(opened)] == [1, 2]
            assert wire.connections == 2

    run(test())


def test_a_server_that_was_started_anew_gets_the_reference_again(kind):
    async def test():
        async with serving(FakeEngines()) as first, serving(FakeEngines()) as second:
            wire = BreakingWire(first.port)
            async with session(kind, wire) as opened:
                await opened.wait_until_ready(PATIENCE_S)
                await opened.send(image(1))
                assert (await opened.next_answer(PATIENCE_S)).number == 1
                wire.target = second.port
                wire.cut()
                await opened.send(image(2))
                assert (await opened.next_answer(PATIENCE_S)).number == 2
                assert opened.counters.reopened == 1
            wire.close()

    run(test())


def test_a_server_that_stays_away_is_given_up(kind):
    async def test():
        async with (
            wired(FakeEngines()) as (_, wire),
            session(kind, wire) as opened,
        ):
            await opened.wait_until_ready(PATIENCE_S)
            opened._session._talk._patience_s = 0.3
            wire.close()
            with pytest.raises(UnavailableError, match="does not answer"):
                await opened.next_answer(PATIENCE_S)
            with pytest.raises(UnavailableError):
                await opened.send(image(1))

    run(test())


@pytest.mark.parametrize(
    ("terms", "error"),
    [
        ({"options": {"model": "unheard-of"}}, ModelNotFoundError),
        ({"budget_ms": 5}, BudgetTooShortError),
    ],
)
def test_a_refused_session_says_why(kind, terms, error):
    async def test():
        async with wired(FakeEngines()) as (_, wire), session(kind, wire, **terms) as opened:
            with pytest.raises(error):
                await opened.wait_until_ready(PATIENCE_S)
            with pytest.raises(error):
                await opened.send(image(1))

    run(test())


def test_a_refused_frame_is_told_and_the_session_goes_on(kind):
    async def test():
        async with wired(FakeEngines()) as (_, wire), session(kind, wire) as opened:
            await opened.wait_until_ready(PATIENCE_S)
            await opened.send(np.full(SHAPE, 7, np.int16))
            await opened.send(image(2))
            assert [answer.number for answer in await collect(opened)] == [2]
            ((number, error),) = opened.refusals
            assert (number, type(error)) == (1, NoContrastError)
            assert (opened.counters.refused, opened.counters.lost) == (1, 0)

    run(test())


def test_frames_of_another_shape_or_type_are_not_sent(kind):
    async def test():
        async with wired(FakeEngines()) as (_, wire), session(kind, wire) as opened:
            await opened.wait_until_ready(PATIENCE_S)
            with pytest.raises(FrameMismatchError, match="voxels"):
                await opened.send(image(1)[1:])
            with pytest.raises(FrameMismatchError, match="float32"):
                await opened.send(image(1).astype(np.float32))
            assert await opened.send(image(1)) == 1

    run(test())


def test_heartbeats_keep_a_silent_session(kind, monkeypatch):
    take, silences = Connection._take, []

    async def taken(self, message):
        if message.HasField("heartbeat"):
            silences.append(self._silent_looks)
        await take(self, message)

    monkeypatch.setattr(Connection, "_take", taken)
    # It is told that it may be silent for 0.4 s; on a busy machine it is for longer.
    monkeypatch.setattr(Connection, "_is_silent", lambda self: self._silent_looks > 200 * LOOKS)

    async def test():
        async with wired(FakeEngines(), live_idle_timeout_s=0.4) as (server, wire):
            async with session(kind, wire) as opened:
                await opened.wait_until_ready(PATIENCE_S)
                await until(lambda: len(silences) > 10)
                await opened.send(image(1))
                assert (await opened.next_answer(PATIENCE_S)).number == 1
                assert (opened.counters.reconnects, wire.connections) == (0, 1)
            await until(lambda: not server.sessions.all())
        assert not any(silences)

    run(test())


def test_who_does_not_read_is_not_sent_more_than_there_is_room_for(kind):
    async def test():
        engines = FakeEngines()
        async with wired(engines) as (_, wire), session(kind, wire) as opened:
            await opened.wait_until_ready(PATIENCE_S)
            sending = asyncio.ensure_future(_send(opened, 40))
            await until(lambda: len(engines.steps) >= 12)
            await asyncio.sleep(0.2)
            assert len(engines.steps) < 40
            found = [(await opened.next_answer(PATIENCE_S)).number for _ in range(40)]
            await sending
            assert found == list(range(1, 41))

    run(test())


async def _send(opened: Any, frames: int) -> None:
    for number in range(1, frames + 1):
        await opened.send(image(number))


@pytest.mark.parametrize(
    ("reference", "affine", "terms"),
    [
        (np.zeros((3, 4)), AFFINE, {}),
        (np.zeros((3, 4, 5), complex), AFFINE, {}),
        (image(1), np.eye(3), {}),
        (image(1), AFFINE, {"labels": np.zeros((2, 2, 2), int)}),
        (image(1), AFFINE, {"points": np.zeros((2, 2))}),
        (image(1), AFFINE, {"options": {"colour": "red"}}),
        (image(1), AFFINE, {"frame_dtype": "float64"}),
    ],
)
def test_what_cannot_be_sent_is_told_at_once(reference, affine, terms):
    with pytest.raises(InvalidRequestError):
        LiveSession("grpc://127.0.0.1:1", reference, affine, **terms)
