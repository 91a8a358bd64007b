"""Workers, brokers and connections die; no job is lost and none has its effect twice."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from service.jobs.job import State
from service.settings import Settings
from service.stores.build import Stores, open_stores
from service.stores.migrate import database_of, migrate
from service.worker.worker import reaper_of
from tests.integration.chaos import (
    Swarm,
    check_effects,
    end_leases,
    freeze,
    kill_every,
    start_worker,
    submit,
    wait_until_done,
)
from tests.integration.light import STAGES
from tests.servers import RedisServer

JOBS, KILLS, REDIS_KILLS = 200, 40, 3
# A busy machine loses leases of a second by itself, which is fine where any job may be repeated.
FAST = {"lease_s": 1, "reap_every_s": 0.5, "max_attempts": 100}
STEADY = FAST | {"lease_s": 100}
PATIENCE_S = 200


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[tuple[Settings, Stores]]:
    config = Settings(data_dir=tmp_path / "data", **STEADY)
    stores = open_stores(config)
    yield config, stores
    stores.close()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_40_kills_over_200_jobs_on_sqlite_lose_and_double_nothing(
    embedded: tuple[Settings, Stores],
) -> None:
    steady, stores = embedded
    config = steady.model_copy(update=FAST)
    swarm = Swarm(config, "poll", size=3)
    inputs = submit(stores, JOBS, seconds=0.15)
    try:
        wait_until_done(stores, JOBS, kill_every(swarm, stores, JOBS, KILLS), timeout_s=900)
    finally:
        swarm.stop()
    assert swarm.kills >= KILLS
    events = check_effects(stores, config, inputs)
    assert events["succeeded"] == JOBS
    assert events["requeued"] > 0, "the kills hit no jobs: they prove nothing"
    with stores.database.read() as tx:
        assert tx.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.servers
def test_40_kills_and_3_of_redis_over_200_jobs_on_postgresql_lose_and_double_nothing(
    postgres_url: str, redis_binary: str, tmp_path: Path
) -> None:
    redis = RedisServer(redis_binary, tmp_path)
    redis.start()
    config = Settings(
        data_dir=tmp_path / "data", database_url=postgres_url, redis_url=redis.url, **FAST
    )
    database = database_of(config)
    migrate(database)
    database.close()
    with closing(open_stores(config)) as stores:
        swarm = Swarm(config, "celery", size=2)
        spread = kill_every(swarm, stores, JOBS, KILLS)
        redis_kills = 0

        def each_round(done: int) -> None:
            nonlocal redis_kills
            spread(done)
            if redis_kills < REDIS_KILLS and done >= (redis_kills + 1) * JOBS // 4:
                redis.kill()
                time.sleep(0.5)
                redis.start()
                redis_kills += 1

        try:
            inputs = submit(stores, JOBS, seconds=0.2)
            wait_until_done(stores, JOBS, each_round, timeout_s=900)
        finally:
            swarm.stop()
            redis.kill()
        assert (swarm.kills >= KILLS, redis_kills) == (True, REDIS_KILLS)
        events = check_effects(stores, config, inputs)
        assert events["succeeded"] == JOBS
        assert events["requeued"] > 0, "the kills hit no jobs: they prove nothing"


@pytest.mark.parametrize(
    "point",
    [
        "after-claim",
        "before-take_file",
        "after-take_file",
        "before-put_bytes",
        "after-put_bytes",
        "before-succeed",
        "after-succeed",
    ],
)
def test_a_worker_killed_at_a_named_point_is_made_up_for(
    embedded: tuple[Settings, Stores], point: str
) -> None:
    config, stores = embedded
    inputs = submit(stores, 1)
    start_worker(config, "poll", WARPLINE_TEST_KILL_AT=point).wait(PATIENCE_S)
    (job,) = stores.jobs.page(None).jobs
    committed = point == "after-succeed"
    assert job.state == (State.SUCCEEDED if committed else State.RUNNING)
    end_leases(stores)
    swarm = Swarm(config, "poll", size=1)
    try:
        wait_until_done(stores, 1, lambda _done: swarm.keep_up(), timeout_s=PATIENCE_S)
    finally:
        swarm.stop()
    events = check_effects(stores, config, inputs)
    assert events["started"] == (1 if committed else 2)


@pytest.mark.parametrize("point", ["beside-take_file", "beside-succeed"])
def test_a_worker_killed_with_two_jobs_under_way_is_made_up_for(
    embedded: tuple[Settings, Stores], point: str
) -> None:
    config, stores = embedded
    inputs = submit(stores, 3, seconds=0.5)
    start_worker(config, "poll", WARPLINE_TEST_KILL_AT=point).wait(PATIENCE_S)
    assert stores.jobs.counts() == {State.RUNNING: 2, State.QUEUED: 1}
    end_leases(stores)
    swarm = Swarm(config, "poll", size=1)
    try:
        wait_until_done(stores, 3, lambda _done: swarm.keep_up(), timeout_s=PATIENCE_S)
    finally:
        swarm.stop()
    events = check_effects(stores, config, inputs)
    assert (events["started"], events["succeeded"]) == (5, 3)


def test_a_worker_that_froze_past_its_lease_writes_nothing_when_it_wakes(
    embedded: tuple[Settings, Stores],
) -> None:
    config, stores = embedded
    inputs = submit(stores, 1, seconds=3)
    frozen = start_worker(config, "poll")
    try:
        _wait(lambda: stores.jobs.page(None).jobs[0].progress.stage in STAGES)
        freeze(frozen.pid, config.data_dir / "warpline.sqlite")
        end_leases(stores)
        swarm = Swarm(config, "poll", size=1)
        try:
            wait_until_done(stores, 1, lambda _done: swarm.keep_up(), timeout_s=PATIENCE_S)
        finally:
            swarm.stop()
        (before,) = stores.jobs.page(None).jobs
        assert before.fence == 2
        os.kill(frozen.pid, signal.SIGCONT)
        others = submit(stores, 1, first=1)  # which it takes once it is done with the first
        _wait(lambda: stores.jobs.counts() == {State.SUCCEEDED: 2})
        assert stores.jobs.job(before.id) == before
    finally:
        os.kill(frozen.pid, signal.SIGCONT)
        frozen.terminate()
        assert frozen.wait(PATIENCE_S) == 0
    check_effects(stores, config, inputs | others)


def test_a_stopped_worker_hands_its_job_back_at_once(embedded: tuple[Settings, Stores]) -> None:
    config, stores = embedded
    submit(stores, 1, seconds=1000)
    worker = start_worker(config, "poll")
    _wait(lambda: stores.jobs.counts().get(State.RUNNING) == 1)
    worker.terminate()
    assert worker.wait(PATIENCE_S) == 0
    (job,) = stores.jobs.page(None).jobs
    assert (job.state, job.attempt) == (State.QUEUED, 0)


def test_a_running_job_is_cancelled_long_before_its_end(
    embedded: tuple[Settings, Stores],
) -> None:
    config, stores = embedded
    (job_id,) = submit(stores, 1, seconds=1000)
    worker = start_worker(config, "poll")
    try:
        _wait(lambda: stores.jobs.counts().get(State.RUNNING) == 1)
        stores.jobs.cancel(job_id)
        _wait(lambda: stores.jobs.job(job_id).state == State.CANCELLED)
    finally:
        worker.terminate()
        worker.wait(PATIENCE_S)


def test_a_job_that_kills_every_worker_is_given_up(tmp_path: Path) -> None:
    config = Settings(data_dir=tmp_path / "data", **STEADY | {"max_attempts": 2})
    stores = open_stores(config)
    (job_id,) = submit(stores, 1)
    reaper = reaper_of(config, stores)
    for _ in range(2):
        start_worker(config, "poll", WARPLINE_TEST_KILL_AT="before-succeed").wait(PATIENCE_S)
        end_leases(stores)
        reaper.reap()
    ended = stores.jobs.job(job_id)
    assert (ended.state, ended.problem["code"]) == (State.FAILED, "worker-lost")
    stores.close()


def _wait(condition: object, timeout_s: float = PATIENCE_S) -> None:
    until = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)
