"""Runs one claimed job: work, upload, manifest, and one commit under the fence."""

import errno
import logging
import re
import shutil
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from service.checksums import sha256_of
from service.errors import (
    FencedOutError,
    InternalError,
    JobCancelledError,
    JobExpiredError,
    JobNotFoundError,
    PacsUnavailableError,
    StorageFullError,
    UnavailableError,
    WarplineError,
)
from service.jobs.heart import HandedBackError, Heart
from service.jobs.job import Claim, Job, Kind, Manifest, NewJob, ResultFile, State
from service.jobs.model import Comparison, ModelFile, ModelId, PublishedModel, model_prefix
from service.jobs.ports import BlobStore, JobStore
from service.jobs.storing import follow_up, wait_before_storing_again

log = logging.getLogger(__name__)


class Watch(Protocol):
    """Tells how far the work is, with small figures if there are some; raises to stop it."""

    def __call__(
        self, stage: str, fraction: float, detail: dict[str, Any] | None = None
    ) -> None: ...


FIRST_RETRY_S = 2.0
# How long to go on telling a store that does not answer how the job ended.
COMMIT_PATIENCE_S = 30.0

OUT_OF_MEMORY = (
    "The worker ran out of memory. Send smaller volumes, or ask the operator for more memory."
)

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

_ATTEMPT = re.compile(r"[0-9a-f-]{36}\.[0-9]+")  # JOB.FENCE

_ENDS: dict[type[WarplineError], State] = {
    JobCancelledError: State.CANCELLED,
    JobExpiredError: State.EXPIRED,
}


@dataclass(frozen=True)
class Output:
    """One file that the work left in its folder."""

    path: Path
    media_type: str
    sha256: str | None = None  # if whoever wrote it knows


@dataclass(frozen=True)
class MadeModel:
    """A model that the work made, as the version that was reserved for the job."""

    id: ModelId
    files: dict[str, Output]  # model.onnx, card.json, README.md
    card: dict[str, Any]
    comparison: Comparison | None = None


@dataclass(frozen=True)
class Outcome:
    """What the work gives: files by result name, and figures for whoever only lists jobs."""

    files: dict[str, Output]
    summary: dict[str, Any] = field(default_factory=dict)
    model: MadeModel | None = None


# Does the job in a folder of its own. Calls `watch` at least once a second and lets it raise.
Work = Callable[[Job, Path, Watch], Outcome]


# Tells the job store how an attempt ended; gives the job's new state, None if it was not ours.
Tell = Callable[[], State | None]


@dataclass
class Attempt:
    """A claim that is being carried out: first its work is done, then what came of it is told."""

    claim: Claim
    folder: Path
    heart: Heart
    started: float
    tell: Tell | None = None


@dataclass(frozen=True)
class Runner:
    """Carries out claims: `begin`, `work_on` and `finish`, or all three by `run`.

    Work is done one job at a time. One that is being finished does not compute any more, and can be
    left to another thread.
    """

    jobs: JobStore
    blobs: BlobStore
    work: Work
    scratch: Path
    lease: timedelta
    max_attempts: int
    stopping: threading.Event = field(default_factory=threading.Event)
    store_for: timedelta = timedelta(hours=72)  # patience with an archive that is away

    def run(self, claim: Claim) -> State | None:
        """Carry the job through; gives its new state, or None when another worker has it."""
        attempt = self.begin(claim)
        self.work_on(attempt)
        return self.finish(attempt)

    def begin(self, claim: Claim) -> Attempt:
        """Keep the job's lease, until the attempt is finished."""
        heart = Heart(self.jobs, claim, self.lease, self.stopping)
        heart.start()
        return Attempt(claim, self.scratch / scratch_name(claim), heart, time.monotonic())

    def work_on(self, attempt: Attempt) -> None:
        """Do the work. How it went is kept for `finish`, and nothing else of it."""
        claim = attempt.claim
        try:
            attempt.folder.mkdir(parents=True)
            outcome = self.work(claim.job, attempt.folder, attempt.heart.watch)
        except Exception as error:  # the one place that knows what each means for the job
            attempt.tell = self._meaning(claim, error)
        except BaseException:
            self._let_go(attempt)
            raise
        else:
            attempt.tell = partial(self._succeed, claim, outcome, attempt.heart.watch)

    def finish(self, attempt: Attempt) -> State | None:
        """Deliver what the work gave, tell how it ended and clear up; the job's new state."""
        try:
            state = None if attempt.tell is None else attempt.tell()
        finally:
            self._let_go(attempt)
        log.info(
            "job=%s attempt=%d state=%s seconds=%.3f",
            attempt.claim.job.id,
            attempt.claim.job.attempt,
            state or "lost",
            time.monotonic() - attempt.started,
        )
        return state

    def _let_go(self, attempt: Attempt) -> None:
        attempt.heart.stop()
        shutil.rmtree(attempt.folder, ignore_errors=True)

    def _succeed(self, claim: Claim, outcome: Outcome, watch: Watch) -> State | None:
        try:
            manifest, then = self._deliver(claim, outcome, watch)
            held = _insist(lambda: self.jobs.succeed(claim, manifest, then))
        except Exception as error:  # such as a store that is away, or a job that was cancelled
            return self._meaning(claim, error)()
        return State.SUCCEEDED if held else None

    def _meaning(self, claim: Claim, error: Exception) -> Tell:
        """What an error means: back to the queue, or the end.

        It holds no traceback, whose frames would hold the images.
        """
        if isinstance(error, FencedOutError):
            return lambda: None
        if isinstance(error, HandedBackError):
            return partial(self._retry, claim, timedelta(0), "worker-stopped", counts=False)
        if isinstance(error, MemoryError):
            error = UnavailableError(OUT_OF_MEMORY)
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            error = StorageFullError()
        if not isinstance(error, WarplineError):
            _log_defect(claim, error)
            error = InternalError()
        log.info("job=%s attempt=%d error=%s", claim.job.id, claim.job.attempt, error.slug)
        if isinstance(error, UnavailableError):
            return self._retry_or_fail(claim, error)
        return partial(self._end, claim, _ENDS.get(type(error), State.FAILED), error.problem())

    def _deliver(
        self, claim: Claim, outcome: Outcome, watch: Watch
    ) -> tuple[Manifest, NewJob | None]:
        """Upload the files under this attempt's own keys, then the manifest that names them.

        It names the job that is to follow, too, if there is one.
        """
        prefix = f"jobs/{claim.job.id}/{claim.fence}/"
        watch("upload", 0.0)
        files = self._store(prefix, outcome.files, lambda share: watch("upload", share))
        model = None if outcome.model is None else self._publish(claim, outcome.model, watch)
        manifest = Manifest(files=files, summary=outcome.summary, model=model)
        if (then := follow_up(claim.job, manifest, self.store_for)) is not None:
            manifest = manifest.model_copy(update={"store_job": then.id})
        self.blobs.put_bytes(prefix + "manifest.json", manifest.model_dump_json().encode())
        watch("upload", 1.0)
        return manifest, then

    def _publish(self, claim: Claim, made: MadeModel, watch: Watch) -> PublishedModel:
        """Upload the model apart from the results: it stays when its job is forgotten."""
        prefix = model_prefix(made.id, claim.job.id, claim.fence)
        stored = self._store(prefix, made.files, lambda _share: watch("publish", 0.0))
        files = {
            name: ModelFile.model_validate(file.model_dump(exclude={"media_type"}))
            for name, file in stored.items()
        }
        return PublishedModel(
            **made.id.model_dump(), files=files, card=made.card, comparison=made.comparison
        )

    def _store(
        self, prefix: str, outputs: Mapping[str, Output], tell: Callable[[float], None]
    ) -> dict[str, ResultFile]:
        """Upload files, two at a time: one is prepared while the store takes in the other."""
        with ThreadPoolExecutor(2, thread_name_prefix="upload") as pool:
            tasks = {
                name: pool.submit(self._put, prefix + name, output)
                for name, output in sorted(outputs.items())
            }
            try:
                for done, task in enumerate(as_completed(tasks.values()), start=1):
                    task.result()
                    tell(done / len(tasks))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return {name: task.result() for name, task in tasks.items()}

    def _put(self, key: str, output: Output) -> ResultFile:
        described = _described(key, output)
        self.blobs.take_file(key, output.path)
        return described

    def _retry_or_fail(self, claim: Claim, error: WarplineError) -> Tell:
        if claim.job.request.kind is Kind.STORE and isinstance(error, PacsUnavailableError):
            delay = wait_before_storing_again(claim.job)  # until the deadline; no try is counted
            return partial(self._retry, claim, delay, error.slug, counts=False)
        if claim.job.attempt >= self.max_attempts:
            return partial(self._end, claim, State.FAILED, error.problem())
        delay = timedelta(seconds=FIRST_RETRY_S * 2 ** (claim.job.attempt - 1))
        return partial(self._retry, claim, delay, error.slug)

    def _end(self, claim: Claim, state: State, problem: dict[str, object]) -> State | None:
        held = _insist(lambda: self.jobs.end(claim, state, problem))
        return state if held else None

    def _retry(
        self, claim: Claim, delay: timedelta, reason: str, *, counts: bool = True
    ) -> State | None:
        held = _insist(lambda: self.jobs.retry(claim, delay, reason, counts=counts))
        return State.QUEUED if held else None


def scratch_name(claim: Claim) -> str:
    """The attempt's folder; `clear_scratch` reads it back."""
    return f"{claim.job.id}.{claim.fence}"


def clear_scratch(scratch: Path, jobs: JobStore) -> int:
    """Remove the folders of attempts that run no more, left by killed workers; how many."""
    folders = [path for path in scratch.glob("*.*") if _ATTEMPT.fullmatch(path.name)]
    dead = [folder for folder in folders if not _is_running(folder.name, jobs)]
    for folder in dead:
        shutil.rmtree(folder, ignore_errors=True)
    return len(dead)


def _is_running(attempt: str, jobs: JobStore) -> bool:
    job_id, _, fence = attempt.partition(".")
    try:
        job = jobs.job(UUID(job_id))
    except JobNotFoundError:
        return False
    return job.state == State.RUNNING and job.fence == int(fence)


def _described(key: str, output: Output) -> ResultFile:
    return ResultFile(
        key=key,
        bytes=output.path.stat().st_size,
        sha256=output.sha256 or sha256_of(output.path),
        media_type=output.media_type,
    )


def _insist(tell: Callable[[], bool]) -> bool:
    """Tell the store how the job ended, again and again while it does not answer.

    When it never does, the lease runs out and the job is done again: nothing is lost.
    """
    until = time.monotonic() + COMMIT_PATIENCE_S
    while True:
        try:
            return tell()
        except UnavailableError:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)


def _log_defect(claim: Claim, error: Exception) -> None:
    """Where it happened, never what it said: messages may hold what is in a caller's file."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
    log.error("job=%s defect=%s at %s", claim.job.id, type(error).__name__, where)
