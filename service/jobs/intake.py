"""Where jobs come in: both faces submit here."""

from dataclasses import dataclass

from service.errors import QueueFullError, QuotaExceededError
from service.jobs.digest import request_digest
from service.jobs.job import Job, NewJob, Queue, Request, State
from service.jobs.model import NewModel
from service.jobs.ports import Doorbell, JobStore

# What callers are told to wait before they try again.
RETRY_AFTER_S = 10.0


@dataclass(frozen=True)
class Intake:
    """Checks limits, stores the job, and only then rings.

    When the process dies between the two, the reaper rings.
    """

    jobs: JobStore
    doorbell: Doorbell
    max_queued_jobs: int
    max_jobs_per_key: int
    deadline_s: float

    def submit(
        self,
        request: Request,
        owner: str,
        *,
        queue: Queue = Queue.INTERACTIVE,
        priority: int = 5,
        deadline_s: float | None = None,
        idempotency_key: str | None = None,
        publishes: NewModel | None = None,
    ) -> tuple[Job, bool]:
        """Take a job in; the flag says that the idempotency key replayed an old one.

        Raises:
            QueueFullError: If too many jobs wait already.
            QuotaExceededError: If the owner has too many unfinished jobs.
            IdempotencyKeyReusedError: If the owner used the key for another request.
        """
        new = NewJob(
            owner=owner,
            request=request,
            request_digest=request_digest(request),
            queue=queue,
            priority=priority,
            deadline_s=self.deadline_s if deadline_s is None else deadline_s,
            idempotency_key=idempotency_key,
            publishes=publishes,
        )
        if idempotency_key is not None:
            old = self.jobs.replay(owner, idempotency_key, new.request_digest)
            if old is not None:
                return old, True
        self._check_limits(owner)
        job, replayed = self.jobs.add(new)
        if not replayed:
            self.doorbell.ring(job.id, job.queue)
        return job, replayed

    def _check_limits(self, owner: str) -> None:
        waiting = self.jobs.counts(states=[State.QUEUED])
        if sum(waiting.values()) >= self.max_queued_jobs:
            raise QueueFullError(retry_after_s=RETRY_AFTER_S)
        unfinished = self.jobs.counts(owner, [State.QUEUED, State.RUNNING])
        if sum(unfinished.values()) >= self.max_jobs_per_key:
            raise QuotaExceededError(
                f"This key has {self.max_jobs_per_key} unfinished jobs already; "
                "wait for some of them or cancel some.",
                retry_after_s=RETRY_AFTER_S,
            )
