"""Two jobs under way in one worker: one computes, one is on its way out."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from service.errors import StoreUnavailableError
from service.jobs.job import (
    Claim,
    InputFile,
    Job,
    Kind,
    NewJob,
    Order,
    Progress,
    Queue,
    Request,
    State,
)
from service.jobs.relay import Relay
from service.jobs.runner import Outcome, Output, Runner, Watch
from service.stores.memory import MemoryJobStore
from service.stores.memory_files import MemoryBlobStore
from service.stores.signing import UrlSigner

LEASE = timedelta(seconds=0.3)  # beats every 0.1 s
PATIENCE_S = 120  # with a machine that is busy with something else


class Gate(MemoryBlobStore):
    """Objects whose uploads wait until they are let through, and then take their time."""

    takes_s = 0.0

    def __init__(self) -> None:
        super().__init__(UrlSigner(b"s", "http://x"))
        self.is_open = threading.Event()
        self.arrived = threading.Event()

    def take_file(self, key: str, source: Path) -> None:
        self.arrived.set()
        assert self.is_open.wait(PATIENCE_S)
        time.sleep(self.takes_s)
        super().take_file(key, source)


class Hearing(MemoryJobStore):
    """Says when a job's heart has heard that it is cancelled: by its next beat."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.told = threading.Semaphore(0)

    def beat(self, claim: Claim, progress: Progress, lease: timedelta) -> Order:
        order = super().beat(claim, progress, lease)
        if order is Order.CANCEL:
            self.told.release()
        return order

    def wait_until_heard(self) -> None:
        assert self.told.acquire(timeout=PATIENCE_S)
        assert self.told.acquire(timeout=PATIENCE_S)


class Bench:
    """A worker's relay, whose work says what it saw when it began.

    The store's clock stands until it is told to go on.
    """

    def __init__(self, scratch: Path) -> None:
        self.now_s = 1_800_000_000.0
        self.jobs = Hearing(self.clock)
        self.blobs = Gate()
        self.stopping = threading.Event()
        self.ended: list[tuple[UUID, State | None]] = []
        self.begun: list[tuple[UUID, dict[State, int]]] = []
        self.while_working = lambda _job, _watch: None
        self.runner = Runner(
            self.jobs, self.blobs, self.work, scratch, LEASE, max_attempts=3, stopping=self.stopping
        )

    def clock(self) -> float:
        return self.now_s

    def outlast_leases(self) -> None:
        """Let time pass for as long as two jobs keep their leases, and then uploads through."""
        until = time.monotonic() + PATIENCE_S
        while len(held := self._held_until()) < 2 and time.monotonic() < until:
            time.sleep(0.005)
        for _ in range(6):  # four leases
            self.now_s += 0.2
            self.jobs.reap(3)
            while any(self._held_until().get(job) == held[job] for job in held):
                assert time.monotonic() < until, "a heart does not beat"
                time.sleep(0.005)
            held = self._held_until()
        self.blobs.is_open.set()

    def _held_until(self) -> dict[UUID, datetime | None]:
        running = self.jobs.page(None, states=[State.RUNNING]).jobs
        return {job.id: job.lease_until for job in running}

    def work(self, job: Job, folder: Path, watch: Watch) -> Outcome:
        self.begun.append((job.id, self.jobs.counts()))
        self.while_working(job, watch)
        (folder / "warped").write_bytes(b"voxels")
        return Outcome({"warped.nii.gz": Output(folder / "warped", "application/gzip")})

    def submit(self, priority: int = 5) -> UUID:
        request = Request(kind=Kind.REGISTER, inputs={"fixed": InputFile(key="uploads/a/data")})
        new = NewJob(
            owner="a", request=request, request_digest="d", deadline_s=60, priority=priority
        )
        return self.jobs.add(new)[0].id

    def claim(self) -> Claim:
        claim = self.jobs.claim([Queue.INTERACTIVE], "w", LEASE)
        assert claim is not None
        return claim

    def relay(self) -> Relay:
        return Relay(self.runner, lambda claim, state: self.ended.append((claim.job.id, state)))

    def state(self, job_id: UUID) -> State:
        return self.jobs.job(job_id).state


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "scratch")
    yield made
    made.blobs.is_open.set()


def test_the_next_job_is_worked_on_while_results_leave_and_none_is_done_before(
    bench: Bench,
) -> None:
    first, second = bench.submit(), bench.submit()

    def look(job: Job, _watch: Watch) -> None:
        if job.id == second:
            assert bench.blobs.arrived.wait(PATIENCE_S)
            assert bench.state(first) is State.RUNNING
            bench.blobs.is_open.set()

    bench.while_working = look
    with bench.relay() as relay:
        relay.carry(bench.claim())
        relay.carry(bench.claim())
    assert bench.ended == [(first, State.SUCCEEDED), (second, State.SUCCEEDED)]
    assert bench.begun[1] == (second, {State.RUNNING: 2})
    assert list(bench.runner.scratch.iterdir()) == []


def test_a_third_job_waits_until_the_first_has_left(bench: Bench) -> None:
    jobs = [bench.submit() for _ in range(3)]
    with bench.relay() as relay:
        relay.carry(bench.claim())
        meanwhile = threading.Thread(target=bench.outlast_leases)
        meanwhile.start()
        # Its own work is done at once, and then it waits for longer than its lease.
        relay.carry(bench.claim())
        meanwhile.join()
        assert bench.ended[:1] == [(jobs[0], State.SUCCEEDED)]
        assert bench.jobs.reap(3) == []
        relay.carry(bench.claim())
    assert bench.ended == [(job, State.SUCCEEDED) for job in jobs]
    assert {bench.jobs.job(job).fence for job in jobs} == {1}


def test_a_job_that_is_cancelled_on_its_way_out_does_not_touch_the_next(bench: Bench) -> None:
    first, second = bench.submit(), bench.submit()

    def cancel(job: Job, watch: Watch) -> None:
        if job.id == second:
            assert bench.blobs.arrived.wait(PATIENCE_S)
            bench.jobs.cancel(first)
            bench.jobs.wait_until_heard()
            bench.blobs.is_open.set()
            watch("refine", 0.5)

    bench.while_working = cancel
    with bench.relay() as relay:
        relay.carry(bench.claim())
        relay.carry(bench.claim())
    assert bench.ended == [(first, State.CANCELLED), (second, State.SUCCEEDED)]
    assert bench.jobs.job(first).manifest is None


def test_a_stopping_worker_hands_both_back_uncounted(bench: Bench) -> None:
    jobs = [bench.submit(), bench.submit()]

    def stop(job: Job, watch: Watch) -> None:
        if job.id == jobs[1]:
            assert bench.blobs.arrived.wait(PATIENCE_S)
            bench.stopping.set()
            bench.blobs.is_open.set()
            watch("refine", 0.5)

    bench.while_working = stop
    with bench.relay() as relay:
        relay.carry(bench.claim())
        relay.carry(bench.claim())
    assert bench.ended == [(job, State.QUEUED) for job in jobs]
    assert {bench.jobs.job(job).attempt for job in jobs} == {0}


def test_a_job_that_was_lost_before_is_carried_through_alone(bench: Bench) -> None:
    bench.blobs.is_open.set()
    bench.blobs.takes_s = 0.2
    lost = bench.submit()
    bench.claim()
    bench.now_s += 1
    bench.jobs.reap(3)  # its worker died
    bench.jobs._set(bench.jobs._entries[lost], not_before=bench.jobs.job(lost).created_at)
    first, last = bench.submit(priority=1), bench.submit(priority=9)
    with bench.relay() as relay:
        for _ in range(3):
            relay.carry(bench.claim())
    running = [(job, counts[State.RUNNING]) for job, counts in bench.begun]
    assert running == [(first, 1), (lost, 1), (last, 1)]


class Away(Hearing):
    """A database that goes away when the first job is to end."""

    def succeed(self, *arguments: object) -> bool:  # noqa: ARG002
        raise StoreUnavailableError

    retry = succeed


def test_what_cannot_be_told_is_left_to_the_lease(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.jobs.runner.COMMIT_PATIENCE_S", 0)
    away = Away(bench.clock)
    bench.jobs = away
    bench.blobs.is_open.set()
    bench.runner = Runner(away, bench.blobs, bench.work, tmp_path / "s", LEASE, max_attempts=3)
    job = bench.submit()
    with bench.relay() as relay:
        relay.carry(bench.claim())
    assert (bench.ended, bench.state(job)) == ([], State.RUNNING)
    bench.now_s += 1
    away.reap(3)
    assert bench.state(job) is State.QUEUED
