"""Who may send what when: credit both ways, stale frames, turns between sessions, heartbeats."""

import asyncio

from service.pb import warpline_pb2 as pb
from tests.live_client import LiveClient, frame
from tests.live_fakes import FakeEngines, answered, image, ready, run, serving, target, until

CREDIT = pb.LiveRequest(credit=pb.Credit(count=1))


async def pieces(client: LiveClient, stop: str) -> list[pb.LiveResponse]:
    """What came until a message of a kind, that one included."""
    before = len(client.seen)
    await client.expect(stop)
    return client.seen[before:]


def granted(client: LiveClient) -> int:
    return sum(message.credit.count for message in client.seen)


def dropped(client: LiveClient) -> list[int]:
    return [number for message in client.seen for number in message.dropped.numbers]


async def beat(client: LiveClient, nonce: int) -> None:
    """A heartbeat and its answer: what was sent before has been taken then."""
    await client.send(pb.LiveRequest(heartbeat=pb.Heartbeat(nonce=nonce)))
    assert (await client.expect("heartbeat")).heartbeat.nonce == nonce


def test_latest_takes_the_newest_frame_and_tells_which_it_dropped():
    async def test():
        engines = FakeEngines()
        async with serving(engines) as server, LiveClient(target(server)) as client:
            opened = await ready(client, policy=pb.FRAME_POLICY_LATEST)
            engines.gate.clear()
            await client.send(*frame(1, image(1)))
            await until(engines.entered.is_set)
            for number in range(2, 7):
                while opened.credit + granted(client) < number:
                    await client.expect("credit")
                await client.send(*frame(number, image(number)))
            await beat(client, 1)
            engines.gate.set()
            assert (await client.answer())[0].number == 1
            head, _ = await client.answer()
            assert (head.number, head.dropped) == (6, 4)
            assert dropped(client) == [2, 3, 4, 5]
            assert [first for _, first in engines.steps] == [1, 6]

    run(test())


def test_every_gives_no_credit_while_frames_wait():
    async def test():
        engines = FakeEngines()
        async with (
            serving(engines, live_waiting_frames=2) as server,
            LiveClient(target(server)) as client,
        ):
            assert (await ready(client)).credit == 2
            engines.gate.clear()
            await client.send(*frame(1, image(1)))
            await until(engines.entered.is_set)
            await client.expect("credit")  # the one that was taken
            await client.send(*frame(2, image(2)), *frame(3, image(3)))
            await beat(client, 1)
            assert granted(client) == 1
            engines.gate.set()
            assert [(await client.answer())[0].number for _ in range(3)] == [1, 2, 3]
            await beat(client, 2)
            assert granted(client) == 3
            assert dropped(client) == []

    run(test())


def test_heartbeats_are_answered_while_a_frame_is_registered():
    async def test():
        engines = FakeEngines()
        async with serving(engines) as server, LiveClient(target(server)) as client:
            await ready(client)
            engines.gate.clear()
            await client.send(*frame(1, image(1)))
            await until(engines.entered.is_set)
            await beat(client, 2**64 - 1)
            assert not any(message.HasField("answer") for message in client.seen)

    run(test())


def test_every_stops_for_a_client_that_takes_no_answers_and_loses_none():
    async def test():
        engines = FakeEngines()
        async with (
            serving(engines, live_kept_answers=2) as server,
            LiveClient(target(server)) as client,
        ):
            opened = await ready(client)
            for number in range(1, 15):
                while opened.credit + granted(client) < number:
                    await client.expect("credit")
                await client.send(*frame(number, image(number)))
            # Eight by the first credit, two that are kept; the others wait.
            await until(lambda: len(engines.steps) == 10)
            await beat(client, 1)
            await asyncio.sleep(0.05)
            assert len(engines.steps) == 10
            await client.send(*[CREDIT] * 6)
            await until(lambda: len(engines.steps) == 14)
            await beat(client, 2)
            numbers = [m.answer.number for m in client.seen if m.HasField("answer")]
            while len(numbers) < 14:
                numbers.append((await client.expect("answer")).answer.number)
            assert numbers == list(range(1, 15))
            assert dropped(client) == []

    run(test())


def test_latest_drops_answers_that_nobody_takes():
    async def test():
        engines = FakeEngines()
        async with (
            serving(engines, live_kept_answers=2) as server,
            LiveClient(target(server)) as client,
        ):
            await ready(client, policy=pb.FRAME_POLICY_LATEST)
            for number in range(1, 15):
                await client.send(*frame(number, image(number)))
                await until(lambda number=number: len(engines.steps) == number)
            await beat(client, 1)
            await client.send(CREDIT, CREDIT)
            numbers = []
            while len(numbers) < 10:
                numbers = [m.answer.number for m in client.seen if m.HasField("answer")]
                await client.read()
            # The first eight had credit; of the others the newest two were kept.
            assert numbers == [*range(1, 9), 13, 14]
            assert dropped(client) == [9, 10, 11, 12]
            await answered_after(client)

    async def answered_after(client: LiveClient) -> None:
        await client.send(CREDIT)
        head = await answered(client, 20)
        assert head.dropped == 4

    run(test())


def test_sessions_take_turns():
    async def test():
        engines = FakeEngines()
        async with serving(engines) as server:
            clients = [LiveClient(target(server)) for _ in range(3)]
            for reference, client in enumerate(clients, 1):
                await ready(client, reference=reference)
            engines.gate.clear()
            await clients[0].send(*frame(1, image(1)))
            await until(engines.entered.is_set)
            # The first session has more frames than the others, and was first to send them.
            for number in (2, 3, 4):
                await clients[0].send(*frame(number, image(number)))
            await beat(clients[0], 1)
            for client in clients[1:]:
                await client.send(*frame(1, image(1)), *frame(2, image(2)))
                await beat(client, 1)
            engines.gate.set()
            for client, count in zip(clients, (4, 2, 2), strict=True):
                for number in range(1, count + 1):
                    assert (await client.answer())[0].number == number
                await client.close()
            turns = [reference for reference, _ in engines.steps]
            assert turns == [1, 2, 3, 1, 2, 3, 1, 1]

    run(test())


def test_a_flood_of_heartbeats_is_answered_or_ended_and_never_piles_up():
    async def test():
        async with serving(FakeEngines()) as server, LiveClient(target(server)) as client:
            await ready(client)
            flood = pb.LiveRequest(heartbeat=pb.Heartbeat(nonce=1))
            await client.send(*[flood] * 5000)
            await beat_or_end(client)

    async def beat_or_end(client: LiveClient) -> None:
        """Either every one was answered, or the call ended: nothing piles up."""
        count = 0
        while count < 5000:
            message = await client.expect("heartbeat", "closed")
            if message.HasField("closed"):
                assert message.closed.problem.code == "credit-exceeded"
                return
            count += 1

    run(test())
