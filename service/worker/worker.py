"""One worker of this process: what it needs, and the loop that takes and does jobs."""

import logging
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from service.audit.log import AuditLog
from service.errors import AuditUnavailableError, UnavailableError
from service.jobs.job import Claim, Queue, State
from service.jobs.reaper import Reaper
from service.jobs.relay import Relay
from service.jobs.runner import Runner, Work, clear_scratch
from service.settings import Settings
from service.stores.build import Stores

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Worker:
    """Claims jobs and carries them out: one is worked on while the last one's results leave."""

    stores: Stores
    runner: Runner
    queues: tuple[Queue, ...]
    name: str
    audit: AuditLog

    @classmethod
    def of(
        cls, settings: Settings, stores: Stores, work: Work, stopping: threading.Event
    ) -> "Worker":
        runner = Runner(
            stores.jobs,
            stores.blobs,
            work,
            scratch_folder(settings),
            timedelta(seconds=settings.lease_s),
            settings.max_attempts,
            stopping,
            timedelta(hours=settings.pacs_store_h),
        )
        name = f"{socket.gethostname()}-{os.getpid()}"
        return cls(stores, runner, queues_of(settings), name, AuditLog.of(settings))

    def work_off(self, goes_on: Callable[[], bool]) -> int:
        """Do jobs until none waits, or it shall not go on; gives how many. All have ended then."""
        done = 0
        with Relay(self.runner, self._record) as relay:
            while goes_on() and not self.runner.stopping.is_set():
                claim = self.stores.jobs.claim(self.queues, self.name, self.runner.lease)
                if claim is None:
                    break
                relay.carry(claim)
                done += 1
        return done

    def _record(self, claim: Claim, state: State | None) -> None:
        """How it ended; a job that is done stays done if that cannot be recorded."""
        with suppress(AuditUnavailableError):
            what = {"job": str(claim.job.id), "kind": claim.job.request.kind.value}
            self.audit.note(claim.job.owner, "end", what, str(state or "lost"))

    def clear_scratch(self) -> None:
        """Remove what killed workers of this machine left behind."""
        try:
            removed = clear_scratch(self.runner.scratch, self.stores.jobs)
        except UnavailableError as error:
            log.warning("scratch: %s", error.slug)
        else:
            if removed:
                log.info("scratch removed=%d", removed)


def queues_of(settings: Settings) -> tuple[Queue, ...]:
    return tuple(Queue(name.strip()) for name in settings.queues.split(",") if name.strip())


def scratch_folder(settings: Settings) -> Path:
    """Where jobs run. Only workers that share their database may share it."""
    return settings.data_dir / "scratch"


def reaper_of(settings: Settings, stores: Stores) -> Reaper:
    return Reaper(
        stores.jobs,
        stores.uploads,
        stores.blobs,
        stores.doorbell,
        timedelta(seconds=settings.reap_every_s),
        settings.max_attempts,
        timedelta(hours=settings.retention_h),
    )
