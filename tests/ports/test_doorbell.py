"""Doorbells: a ring reaches a worker, and never holds up or breaks whoever rings."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis

from service.jobs.job import Queue
from service.stores.celery_app import RING_TASK, make_app
from service.stores.doorbell import CeleryDoorbell, Listener, PollDoorbell
from service.stores.memory_files import MemoryDoorbell
from tests.servers import RedisServer, free_port

JOB = uuid4()
# What a busy machine takes for what waits for nobody; whoever waited would take far longer.
SOON_S = 60.0


def seconds_of(ring: object) -> float:
    started = time.monotonic()
    ring()  # type: ignore[operator]
    return time.monotonic() - started


def test_the_fake_remembers_rings() -> None:
    bell = MemoryDoorbell()
    bell.ring(JOB, Queue.BATCH)
    bell.close()
    assert bell.rings == [(JOB, Queue.BATCH)]


# --- on one machine ---


def test_a_ring_wakes_a_waiting_worker_at_once(tmp_path: Path) -> None:
    with Listener(tmp_path) as ear:
        assert not ear.wait(0.01)
        PollDoorbell(tmp_path).ring(JOB, Queue.INTERACTIVE)
        assert seconds_of(lambda: ear.wait(5 * SOON_S)) < SOON_S
        assert not ear.wait(0.01)


def test_many_rings_before_anybody_listens_are_one(tmp_path: Path) -> None:
    bell = PollDoorbell(tmp_path)
    with Listener(tmp_path) as ear:
        for _ in range(5_000):  # more than a pipe's buffer holds would block a careless writer
            bell.ring(JOB, Queue.INTERACTIVE)
        assert ear.wait(0)
        while ear.wait(0):
            pass


def test_a_dead_workers_pipe_is_cleared_away(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "999999.pipe")
    with Listener(tmp_path) as ear:
        PollDoorbell(tmp_path).ring(JOB, Queue.INTERACTIVE)
        assert ear.wait(1)
        assert [pipe.name for pipe in tmp_path.iterdir()] == [f"{os.getpid()}.pipe"]
    assert list(tmp_path.iterdir()) == []


def test_ringing_where_nobody_ever_listened_is_fine(tmp_path: Path) -> None:
    PollDoorbell(tmp_path / "none").ring(JOB, Queue.INTERACTIVE)


# --- through Redis ---


@pytest.fixture
def own_redis(redis_binary: str, tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that a test may stop and kill."""
    server = RedisServer(redis_binary, tmp_path)
    server.start()
    yield server
    server.process.send_signal(signal.SIGCONT)
    server.kill()


def messages(url: str, queue: Queue, expected: int) -> list[dict[str, Any]]:
    """The bodies that wait in a queue, once there are as many as expected."""
    with make_app(url) as app, app.connection_for_read() as connection:
        simple = connection.SimpleQueue(str(queue))
        found = [simple.get(timeout=2 * SOON_S) for _ in range(expected)]
        for message in found:
            message.ack()
        simple.close()
        return [{"headers": message.headers, "body": message.payload} for message in found]


@pytest.mark.servers
def test_a_message_holds_the_jobs_id_and_nothing_else(own_redis: RedisServer) -> None:
    bell = CeleryDoorbell(own_redis.url)
    bell.ring(JOB, Queue.BATCH)
    bell.close()
    (message,) = messages(own_redis.url, Queue.BATCH, 1)
    assert message["headers"]["task"] == RING_TASK
    arguments, options, _ = message["body"]
    assert (arguments, options) == ([], {"job_id": str(JOB)})


@pytest.mark.servers
def test_a_frozen_broker_holds_up_nobody(own_redis: RedisServer) -> None:
    bell = CeleryDoorbell(own_redis.url)
    bell.ring(JOB, Queue.INTERACTIVE)
    time.sleep(0.5)
    own_redis.process.send_signal(signal.SIGSTOP)
    took = seconds_of(lambda: [bell.ring(JOB, Queue.INTERACTIVE) for _ in range(3_000)])
    assert took < SOON_S
    assert seconds_of(bell.close) < SOON_S


@pytest.mark.servers
def test_rings_go_on_after_the_broker_was_killed(own_redis: RedisServer) -> None:
    bell = CeleryDoorbell(own_redis.url)
    bell.ring(JOB, Queue.INTERACTIVE)
    own_redis.kill()
    assert seconds_of(lambda: bell.ring(JOB, Queue.INTERACTIVE)) < SOON_S
    own_redis.start()
    until = time.monotonic() + 2 * SOON_S
    while time.monotonic() < until:  # rings until then may be lost, as promised
        bell.ring(JOB, Queue.INTERACTIVE)
        time.sleep(0.2)
        if _length(own_redis) > 0:
            break
    bell.close()
    assert _length(own_redis) > 0


def _length(server: RedisServer) -> int:
    with redis.Redis.from_url(server.url) as client:
        return int(client.llen("warpline:interactive"))


@pytest.mark.servers
def test_no_broker_at_all_is_no_error(tmp_path: Path) -> None:
    bell = CeleryDoorbell(f"redis://127.0.0.1:{free_port()}/0")
    assert seconds_of(lambda: bell.ring(JOB, Queue.INTERACTIVE)) < SOON_S
    assert seconds_of(bell.close) < SOON_S
