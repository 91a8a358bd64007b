"""Lets one job's results leave while the next job is worked on."""

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from service.jobs.job import Claim, State
from service.jobs.runner import Attempt, Runner

log = logging.getLogger(__name__)

# Hears how a job ended; None if it was not ours any more.
Told = Callable[[Claim, State | None], None]


@dataclass
class Relay:
    """Works on jobs in the caller's thread and finishes them in another, one behind.

    Uploads, checksums and the last commit need little of the processor and no memory to speak of:
    what is delivered lies on the disk. Each job keeps its own lease, so a crash costs two attempts
    instead of one. A job that was tried before may be what killed its worker: it is carried through
    alone, so that no other is lost with it twice.
    """

    runner: Runner
    told: Told
    _pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="finish")
    )
    _last: "Future[None] | None" = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Every job has ended when this returns."""
        self._pool.shutdown()

    def carry(self, claim: Claim) -> None:
        """Do the job's work. Its results may be on their way still when this returns."""
        attempt = self.runner.begin(claim)
        is_alone = claim.job.attempt > 1
        if is_alone:
            self.settle()
        self.runner.work_on(attempt)
        self.settle()
        self._last = self._pool.submit(self._finish, attempt)
        if is_alone:
            self.settle()

    def settle(self) -> None:
        """Wait until every job has ended."""
        if self._last is not None:
            wait([self._last])
            self._last = None

    def _finish(self, attempt: Attempt) -> None:
        try:
            self.told(attempt.claim, self.runner.finish(attempt))
        except Exception as error:  # a store that is away for long: the lease runs out
            log.warning("job=%s not told: %s", attempt.claim.job.id, type(error).__name__)
