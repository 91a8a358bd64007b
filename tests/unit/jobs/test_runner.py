"""Running a job: what each way to end does to it, and what is left behind."""

import hashlib
import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from service.errors import (
    NoContrastError,
    StoreUnavailableError,
    UnavailableError,
)
from service.jobs.job import Claim, InputFile, Job, Kind, NewJob, Queue, Request, State
from service.jobs.runner import Outcome, Output, Runner, Watch, Work, clear_scratch
from service.stores.memory import MemoryJobStore
from service.stores.memory_files import MemoryBlobStore
from service.stores.signing import UrlSigner

LEASE = timedelta(seconds=0.3)  # beats every 0.1 s
PATIENCE_S = 120  # with a machine that is busy with something else
PATIENT_NAME = "DOE^JANE"


def write_result(folder: Path) -> Outcome:
    (folder / "warped").write_bytes(b"voxels")
    files = {"warped.nii.gz": Output(folder / "warped", "application/gzip")}
    return Outcome(files, {"verdict": {"status": "pass"}})


def good_work(_job: Job, folder: Path, watch: Watch) -> Outcome:
    watch("warp", 0.5)
    return write_result(folder)


class Bench:
    """A job store whose clock stands until it is told to go on, objects, and a runner."""

    def __init__(self, scratch: Path) -> None:
        self.now_s = 1_800_000_000.0
        self.jobs = MemoryJobStore(lambda: self.now_s)
        self.blobs = MemoryBlobStore(UrlSigner(b"s", "http://x"))
        self.scratch = scratch
        self.stopping = threading.Event()

    def submit(self, deadline_s: float = 60) -> Job:
        request = Request(kind=Kind.REGISTER, inputs={"fixed": InputFile(key="uploads/a/data")})
        new = NewJob(owner="a", request=request, request_digest="d", deadline_s=deadline_s)
        return self.jobs.add(new)[0]

    def claim(self) -> Claim:
        claim = self.jobs.claim([Queue.INTERACTIVE], "w", LEASE)
        assert claim is not None
        return claim

    def runner(self, work: Work, jobs: object = None) -> Runner:
        return Runner(
            jobs or self.jobs,  # type: ignore[arg-type]
            self.blobs,
            work,
            self.scratch,
            LEASE,
            max_attempts=3,
            stopping=self.stopping,
        )

    def run(self, work: Work, deadline_s: float = 60) -> Job:
        job = self.submit(deadline_s)
        self.runner(work).run(self.claim())
        return self.jobs.job(job.id)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "scratch")


def test_a_good_job_leaves_its_files_a_manifest_and_nothing_in_the_scratch(bench: Bench) -> None:
    job = bench.run(good_work)
    assert job.state == State.SUCCEEDED
    file = job.manifest.files["warped.nii.gz"]
    assert file.key == f"jobs/{job.id}/1/warped.nii.gz"
    assert bench.blobs.get_bytes(file.key) == b"voxels"
    assert (file.bytes, file.sha256) == (6, hashlib.sha256(b"voxels").hexdigest())
    stored = bench.blobs.get_bytes(f"jobs/{job.id}/1/manifest.json").decode()
    assert stored == job.manifest.model_dump_json()
    assert job.manifest.summary == {"verdict": {"status": "pass"}}
    assert list(bench.scratch.iterdir()) == []


def test_a_checksum_that_the_work_knows_is_not_taken_again(bench: Bench) -> None:
    def knowing(_job: Job, folder: Path, _watch: Watch) -> Outcome:
        (folder / "field").write_bytes(b"vectors")
        return Outcome({"ddf.nii.gz": Output(folder / "field", "application/gzip", "ab" * 32)})

    job = bench.run(knowing)
    assert job.manifest.files["ddf.nii.gz"].sha256 == "ab" * 32


def raising(error: BaseException) -> Work:
    def work(_job: Job, _folder: Path, _watch: Watch) -> Outcome:
        raise error

    return work


def test_a_fault_of_the_request_fails_the_job_with_its_problem(bench: Bench) -> None:
    error = NoContrastError("The fixed image is constant.", field="fixed")
    job = bench.run(raising(error))
    assert (job.state, job.problem) == (State.FAILED, error.problem())
    assert bench.blobs.list("") == []


def test_a_defect_tells_neither_caller_nor_log_what_the_exception_said(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        job = bench.run(raising(ValueError(f"cannot parse {PATIENT_NAME}")))
    assert job.state == State.FAILED
    assert job.problem["code"] == "internal"
    assert PATIENT_NAME not in str(job) + caplog.text
    assert "ValueError at test_runner.py:" in caplog.text
    assert str(job.id) in caplog.text


@pytest.mark.parametrize(
    "error",
    [StoreUnavailableError(), MemoryError(), UnavailableError(), OSError(28, "No space left")],
)
def test_what_may_pass_is_tried_again_and_then_fails(
    bench: Bench, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        job = bench.run(raising(error))
    assert job.state == State.QUEUED
    assert job.not_before - job.created_at == timedelta(seconds=2)
    for _ in range(2):
        bench.jobs._set(bench.jobs._entries[job.id], not_before=job.created_at)
        bench.runner(raising(error)).run(bench.claim())
    job = bench.jobs.job(job.id)
    assert (job.state, job.attempt) == (State.FAILED, 3)
    assert job.problem["retryable"] is True
    assert f"job={job.id} attempt=1 error={job.problem['code']}" in caplog.text


def until_stopped(amid: Callable[[], object]) -> Work:
    """Work that goes on until it is told to stop, in whose midst something happens."""

    def work(_job: Job, folder: Path, watch: Watch) -> Outcome:
        watch("refine", 0.5)
        amid()
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            watch("refine", 0.5)
            time.sleep(0.01)
        return write_result(folder)

    return work


def test_a_running_job_stops_soon_after_it_is_cancelled(bench: Bench) -> None:
    job = bench.submit()
    bench.runner(until_stopped(lambda: bench.jobs.cancel(job.id))).run(bench.claim())
    ended = bench.jobs.job(job.id)
    assert (ended.state, ended.problem["code"]) == (State.CANCELLED, "job-cancelled")
    assert bench.blobs.list("") == []


def test_a_running_job_stops_at_its_deadline(bench: Bench) -> None:
    def pass_it() -> None:
        bench.now_s += 61

    job = bench.run(until_stopped(pass_it), deadline_s=60)
    assert (job.state, job.problem["code"]) == (State.EXPIRED, "job-expired")


def test_a_stopping_worker_hands_its_job_back_uncounted(bench: Bench) -> None:
    job = bench.submit()
    bench.runner(until_stopped(bench.stopping.set)).run(bench.claim())
    back = bench.jobs.job(job.id)
    assert (back.state, back.attempt, back.fence) == (State.QUEUED, 0, 1)
    bench.stopping.clear()
    bench.runner(good_work).run(bench.claim())
    assert bench.jobs.job(job.id).state == State.SUCCEEDED


def test_a_long_job_keeps_its_lease(bench: Bench) -> None:
    job = bench.submit()

    def long_work(_job: Job, folder: Path, watch: Watch) -> Outcome:
        for _ in range(6):  # four leases
            held_until = bench.jobs.job(job.id).lease_until
            bench.now_s += 0.2
            bench.jobs.reap(3)
            watch("refine", 0.5)
            until = time.monotonic() + PATIENCE_S
            while bench.jobs.job(job.id).lease_until == held_until:
                assert time.monotonic() < until, "its heart does not beat"
                time.sleep(0.005)
        return write_result(folder)

    bench.runner(long_work).run(bench.claim())
    done = bench.jobs.job(job.id)
    assert (done.state, done.fence) == (State.SUCCEEDED, 1)
    assert [event.type for event in bench.jobs.events(job.id)].count("progress") >= 1


def test_a_worker_that_lost_its_job_writes_nothing_into_it(bench: Bench) -> None:
    job = bench.submit()
    stale = bench.claim()
    bench.now_s += 1
    bench.jobs.reap(3)
    bench.jobs._set(bench.jobs._entries[job.id], not_before=job.created_at)
    bench.runner(good_work).run(bench.claim())
    done = bench.jobs.job(job.id)
    assert bench.runner(good_work).run(stale) is None
    assert bench.jobs.job(job.id) == done
    assert all("/2/" in file.key for file in done.manifest.files.values())


class Flaky:
    """A store whose commits fail before or after they are done, some times."""

    def __init__(self, store: MemoryJobStore, failures: int, *, after: bool) -> None:
        self._store = store
        self._failures = failures
        self._after = after

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def succeed(self, *arguments: object) -> bool:
        done = self._store.succeed(*arguments) if self._after else None  # type: ignore[arg-type]
        self._failures -= 1
        if self._failures >= 0:
            raise StoreUnavailableError
        return self._store.succeed(*arguments) if done is None else done  # type: ignore[arg-type]


@pytest.mark.parametrize("after", [False, True])
def test_a_commit_whose_answer_is_lost_happens_once(bench: Bench, after: bool) -> None:
    job = bench.submit()
    store = Flaky(bench.jobs, 2, after=after)
    bench.runner(good_work, store).run(bench.claim())
    done = bench.jobs.job(job.id)
    assert done.state == State.SUCCEEDED
    assert [event.type for event in bench.jobs.events(job.id)].count("succeeded") == 1


def test_only_folders_of_dead_attempts_are_cleared(bench: Bench) -> None:
    bench.submit()
    running = bench.claim()
    for name in (f"{running.job.id}.1", f"{running.job.id}.7", "lost+found"):
        (bench.scratch / name).mkdir(parents=True)
    assert clear_scratch(bench.scratch, bench.jobs) == 1
    assert sorted(path.name for path in bench.scratch.iterdir()) == sorted(
        [f"{running.job.id}.1", "lost+found"]
    )
    assert clear_scratch(bench.scratch / "none", bench.jobs) == 0
