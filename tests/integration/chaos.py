"""Workers that die at random, and the check that nothing was lost or done twice."""

import contextlib
import hashlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import psutil
import sqlalchemy as sa

from service.jobs.intake import Intake
from service.jobs.job import Job, Kind, Request, State
from service.jobs.reaper import Reaper
from service.jobs.runner import clear_scratch
from service.settings import Settings
from service.stores.build import Stores
from service.stores.tables import job as job_table
from service.worker.worker import reaper_of, scratch_folder
from tests.integration.light import expected
from tests.uploads import sent

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120  # of a busy machine


def environment(config: Settings) -> dict[str, str]:
    """The settings as a child process reads them."""
    values = config.model_dump(exclude_defaults=True, mode="json")
    return {**os.environ, **{f"WARPLINE_{name.upper()}": str(v) for name, v in values.items()}}


def start_worker(config: Settings, kind: str, **extra: str) -> "subprocess.Popen[bytes]":
    light = ["tests.integration.light", kind]
    command = [sys.executable, "-m", *(["service.worker.main"] if kind == "real" else light)]
    return subprocess.Popen(command, cwd=ROOT, env=environment(config) | extra)


@dataclass
class Swarm:
    """Worker processes; those that die are started again, as a supervisor would."""

    config: Settings
    kind: str
    size: int
    rng: random.Random = field(default_factory=lambda: random.Random(7))
    kills: int = 0
    _processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    _bereaved: list[psutil.Process] = field(default_factory=list)

    def keep_up(self) -> None:
        self._processes = [each for each in self._processes if each.poll() is None]
        while len(self._processes) < self.size:
            self._processes.append(start_worker(self.config, self.kind))

    def kill_one(self) -> None:
        """SIGKILL one process of one worker: with Celery its supervisor, parent or child."""
        worker = psutil.Process(self.rng.choice(self._processes).pid)
        with contextlib.suppress(psutil.NoSuchProcess):
            family = [worker, *worker.children(recursive=True)]
            self._bereaved += family
            self.rng.choice(family).kill()
            self.kills += 1

    def stop(self) -> None:
        """End all of them, also those whose parent was killed: what they write would come late."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE_S)
            process.kill()
            process.wait()
        for left in self._bereaved:
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()
        until = time.monotonic() + PATIENCE_S
        while any(map(is_alive, self._bereaved)):
            assert time.monotonic() < until, "it outlives its kill"
            time.sleep(0.02)


def is_alive(process: psutil.Process) -> bool:
    """Whether a process, which may be nobody's child any more, still does something."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def submit(
    stores: Stores, count: int, *, seconds: float = 0.05, first: int = 0
) -> dict[UUID, bytes]:
    """Take in that many jobs, numbered from `first`; gives what each reads."""
    intake = Intake(stores.jobs, stores.doorbell, 10_000, 10_000, 3_600)
    inputs = {}
    for number in range(first, first + count):
        data = hashlib.sha256(str(number).encode()).digest() * 500
        files = {"fixed": sent(stores, data)}
        request = Request(kind=Kind.REGISTER, inputs=files, options={"seconds": seconds})
        job, _ = intake.submit(request, "chaos", idempotency_key=str(number))
        inputs[job.id] = data
    return inputs


def wait_until_done(
    stores: Stores, count: int, each_round: Callable[[int], None], timeout_s: float
) -> None:
    """Call `each_round` with the number of finished jobs until all are."""
    until = time.monotonic() + timeout_s
    while (done := _finished(stores)) < count:
        assert time.monotonic() < until, f"only {stores.jobs.counts()} after {timeout_s} s"
        each_round(done)
        time.sleep(0.03)


def _finished(stores: Stores) -> int:
    return sum(n for state, n in stores.jobs.counts().items() if state.is_terminal)


def check_effects(stores: Stores, config: Settings, inputs: dict[UUID, bytes]) -> Counter[str]:
    """0 lost, 0 doubled, 0 corrupt; gives how often each kind of event happened."""
    events: Counter[str] = Counter()
    named: set[str] = set()
    for job_id, data in inputs.items():
        job = stores.jobs.job(job_id)
        events += _check_events(stores, job)
        named |= _check_objects(stores, job, data)
    assert sum(stores.jobs.counts().values()) == len(inputs)
    reaper: Reaper = reaper_of(config, stores)
    reaper.remove_orphans()
    assert set(stores.blobs.list("jobs/")) == named
    clear_scratch(scratch_folder(config), stores.jobs)
    assert list(scratch_folder(config).glob("*")) == []
    return events


def _check_events(stores: Stores, job: Job) -> Counter[str]:
    events = stores.jobs.events(job.id)
    types = [event.type for event in events]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert job.state == State.SUCCEEDED, (job.state, job.problem, types)
    assert [kind for kind in types if kind in set(State)][-1:] == ["succeeded"]
    assert types.count("succeeded") == 1
    assert types[-1] == "succeeded"
    assert types.count("started") == job.fence
    return Counter(types)


def _check_objects(stores: Stores, job: Job, data: bytes) -> set[str]:
    manifest = job.manifest
    assert manifest is not None
    for file in manifest.files.values():
        stored = stores.blobs.get_bytes(file.key)
        assert file.key.startswith(f"jobs/{job.id}/{job.fence}/")
        assert (len(stored), hashlib.sha256(stored).hexdigest()) == (file.bytes, file.sha256)
    result = manifest.files["warped.nii.gz"]
    assert stores.blobs.get_bytes(result.key) == expected(data)
    return {file.key for file in manifest.files.values()} | {
        f"jobs/{job.id}/{job.fence}/manifest.json"
    }


def kill_every(swarm: Swarm, stores: Stores, jobs: int, kills: int) -> Callable[[int], None]:
    """A round that keeps the swarm up and spreads its kills over the whole run.

    It strikes only while a job runs: a worker that dies while it starts up proves nothing.
    """

    def each_round(done: int) -> None:
        swarm.keep_up()
        is_due = swarm.kills < min(kills, 1 + done * kills // (jobs - kills // 2))
        if is_due and stores.jobs.counts().get(State.RUNNING):
            swarm.kill_one()

    return each_round


def end_leases(stores: Stores) -> None:
    """Let the leases of all jobs that run be over: their workers are dead, or frozen.

    One that is over so soon that a test can wait for it is lost on a busy machine as well.
    """
    with stores.database.write() as tx:
        running = sa.update(job_table).where(job_table.c.state == State.RUNNING)
        tx.execute(running.values(lease_until=0))


def freeze(pid: int, database: Path) -> None:
    """Stop a process while it does not hold the database's one write lock."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        os.kill(pid, signal.SIGSTOP)
        while not _is_stopped(pid):
            time.sleep(0.01)
        with contextlib.closing(sqlite3.connect(database, timeout=0)) as probe:
            try:
                probe.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                os.kill(pid, signal.SIGCONT)
                time.sleep(0.02)
            else:
                return
    raise AssertionError("it always holds the lock")


def _is_stopped(pid: int) -> bool:
    """Whether the signal has reached every thread."""
    told = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(text.rpartition(")")[2].split()[0] == "T" for text in told)
