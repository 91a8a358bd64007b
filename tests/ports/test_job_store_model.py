"""Any order of calls, against a small model of what must be true (Hypothesis finds the order)."""

import shutil
import tempfile
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
)

from service.jobs.job import Claim, Manifest, Order, Progress, Queue, State
from service.stores.database import Database, sqlite_url
from tests.ports.conftest import Bench, HandClock, memory_bench, new_job, sql_bench

LEASE_S = 30
LEASE = timedelta(seconds=LEASE_S)
DEADLINE_S = 200
MAX_ATTEMPTS = 3
QUEUES = [Queue.INTERACTIVE, Queue.BATCH]
MANIFEST = Manifest(files={})

LEGAL = {
    (State.QUEUED, State.RUNNING),
    (State.QUEUED, State.CANCELLED),
    (State.QUEUED, State.EXPIRED),
    (State.RUNNING, State.QUEUED),
    *((State.RUNNING, state) for state in State if state.is_terminal),
}


class _Known:
    """The model's job: just what is needed to foretell the store's answers."""

    def __init__(self, number: int, queue: Queue, priority: int, now: float) -> None:
        self.rank = (QUEUES.index(queue), priority, number)
        self.state = State.QUEUED
        self.fence = self.attempt = 0
        self.not_before = now
        self.deadline = now + DEADLINE_S
        self.lease_until = 0.0
        self.cancel_requested = False
        self.events = 1

    def become(self, state: State) -> None:
        assert (self.state, state) in LEGAL
        self.state = state
        self.events += 1


class JobStoreMachine(RuleBasedStateMachine):
    """Rules are the store's verbs; each compares the store's answer with the model's."""

    claims = Bundle("claims")

    def open(self) -> Bench:
        return memory_bench()

    @initialize()
    def start(self) -> None:
        self.bench = self.open()
        self.known: dict[UUID, _Known] = {}

    @property
    def now(self) -> float:
        return self.bench.clock.now_s

    # --- faces ---

    @rule(queue=st.sampled_from(QUEUES), priority=st.integers(0, 2))
    def submit(self, queue: Queue, priority: int) -> None:
        job, _ = self.bench.jobs.add(new_job(queue=queue, priority=priority, deadline_s=DEADLINE_S))
        self.known[job.id] = _Known(len(self.known), queue, priority, self.now)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if not self.known:
            return
        job_id = data.draw(st.sampled_from(list(self.known)))
        job = self.known[job_id]
        if job.state == State.QUEUED:
            job.become(State.CANCELLED)
        elif job.state == State.RUNNING:
            job.cancel_requested = True
        assert self.bench.jobs.cancel(job_id).state == job.state

    # --- workers ---

    @rule(target=claims)
    def claim(self) -> object:
        claim = self.bench.jobs.claim(QUEUES, "w", LEASE)
        waiting = [
            (job.rank, job_id)
            for job_id, job in self.known.items()
            if job.state == State.QUEUED and job.not_before <= self.now < job.deadline
        ]
        if claim is None:
            assert not waiting
            return multiple()
        assert claim.job.id == min(waiting)[1]
        job = self.known[claim.job.id]
        job.become(State.RUNNING)
        job.fence += 1
        job.attempt += 1
        job.lease_until = self.now + LEASE_S
        assert claim.fence == job.fence
        return claim

    def holds(self, claim: Claim) -> bool:
        job = self.known[claim.job.id]
        return job.state == State.RUNNING and job.fence == claim.fence

    @rule(claim=claims)
    def beat(self, claim: Claim) -> None:
        job = self.known[claim.job.id]
        if not self.holds(claim):
            expected = Order.FENCED_OUT
        elif job.cancel_requested:
            expected = Order.CANCEL
        else:
            expected = Order.EXPIRE if job.deadline <= self.now else Order.GO_ON
        # The stage is the one that a claim sets, so that no event is due.
        order = self.bench.jobs.beat(claim, Progress(stage="starting", fraction=0.5), LEASE)
        assert order == expected
        if self.holds(claim):
            job.lease_until = self.now + LEASE_S

    @rule(claim=claims, state=st.sampled_from([state for state in State if state.is_terminal]))
    def finish(self, claim: Claim, state: State) -> None:
        held = self.holds(claim)
        if state == State.SUCCEEDED:
            assert self.bench.jobs.succeed(claim, MANIFEST) == held
        else:
            assert self.bench.jobs.end(claim, state, {"code": "x"}) == held
        if held:
            self.known[claim.job.id].become(state)

    @rule(claim=claims, delay_s=st.integers(0, 5), counts=st.booleans())
    def retry(self, claim: Claim, delay_s: int, counts: bool) -> None:
        held = self.holds(claim)
        delay = timedelta(seconds=delay_s)
        assert self.bench.jobs.retry(claim, delay, "x", counts=counts) == held
        if held:
            job = self.known[claim.job.id]
            job.become(State.QUEUED)
            job.attempt -= not counts
            job.not_before = self.now + delay_s

    # --- time and the reaper ---

    @rule(seconds=st.sampled_from([0.5, 3, LEASE_S - 1, LEASE_S, 61]))
    def wait(self, seconds: float) -> None:
        self.bench.clock.forward(seconds)

    @rule()
    def reap(self) -> None:
        rung = {job.id for job in self.bench.jobs.reap(MAX_ATTEMPTS)}
        for job_id, job in self.known.items():
            is_late = job.deadline <= self.now
            if job.state == State.QUEUED and is_late:
                job.become(State.EXPIRED)
            elif job.state == State.RUNNING and job.lease_until <= self.now:
                self._take_back(job_id, job, is_late)
        assert all(self.known[job_id].state == State.QUEUED for job_id in rung)

    def _take_back(self, job_id: UUID, job: _Known, is_late: bool) -> None:
        if job.cancel_requested:
            job.become(State.CANCELLED)
        elif is_late:
            job.become(State.EXPIRED)
        elif job.attempt >= MAX_ATTEMPTS:
            job.become(State.FAILED)
        else:
            job.become(State.QUEUED)
            stored = self.bench.jobs.job(job_id).not_before.timestamp()
            full = 2.0 ** (job.attempt - 1)
            assert self.now + full / 2 - 0.002 <= stored <= self.now + full + 0.002
            job.not_before = stored

    # --- always ---

    @invariant()
    def store_and_model_agree(self) -> None:
        for job_id, job in getattr(self, "known", {}).items():
            stored = self.bench.jobs.job(job_id)
            assert (stored.state, stored.fence, stored.attempt) == (
                job.state,
                job.fence,
                job.attempt,
            )
            assert (stored.finished_at is not None) == job.state.is_terminal
            events = self.bench.jobs.events(job_id)
            assert [event.seq for event in events] == list(range(1, job.events + 1))
            ended = [event for event in events if event.type in set(State) - {"queued", "running"}]
            assert len(ended) == job.state.is_terminal


class SqliteMachine(JobStoreMachine):
    def open(self) -> Bench:
        self.folder = Path(tempfile.mkdtemp())
        clock = HandClock()
        self.database = Database(sqlite_url(self.folder / "jobs.sqlite"), clock=clock.sql)
        # Durability is not what is looked for here, and waiting for the disk is slow.
        with self.database.engine.connect() as connection:
            connection.exec_driver_sql("ROLLBACK")
            connection.exec_driver_sql("PRAGMA synchronous = OFF")
            connection.exec_driver_sql("BEGIN")
        return sql_bench(self.database, clock)

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.database.close()
            shutil.rmtree(self.folder)


TestMemory = JobStoreMachine.TestCase
TestMemory.settings = settings(
    max_examples=150,
    stateful_step_count=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
TestSqlite = SqliteMachine.TestCase
TestSqlite.settings = settings(
    max_examples=25,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
