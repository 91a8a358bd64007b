"""The heartbeat of a running job: it keeps the lease, tells progress and hears orders."""

import logging
import threading
from datetime import timedelta
from typing import Any

from service.errors import (
    FencedOutError,
    JobCancelledError,
    JobExpiredError,
    UnavailableError,
)
from service.jobs.job import Claim, Order, Progress
from service.jobs.ports import JobStore

log = logging.getLogger(__name__)

LONGEST_BEAT_S = 1.0

_STOPS = {
    Order.CANCEL: JobCancelledError,
    Order.EXPIRE: JobExpiredError,
    Order.FENCED_OUT: FencedOutError,
}


class HandedBackError(Exception):
    """The worker is told to stop; the job goes back to its queue."""


class Heart:
    """Beats from a thread of its own, from `start` to `stop`."""

    def __init__(
        self, store: JobStore, claim: Claim, lease: timedelta, stopping: threading.Event
    ) -> None:
        self._store = store
        self._claim = claim
        self._lease = lease
        self._stopping = stopping
        self._progress = claim.job.progress
        self._order = Order.GO_ON
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name="heart", daemon=True)

    def watch(self, stage: str, fraction: float, detail: dict[str, Any] | None = None) -> None:
        """Note how far the work is; raises where it shall not go on.

        Raises:
            JobCancelledError: If the caller does not want the job any more.
            JobExpiredError: If its deadline passed.
            FencedOutError: If another worker has it.
            HandedBackError: If this process shall stop.
        """
        bounded = min(1.0, max(0.0, fraction))
        self._progress = Progress(stage=stage, fraction=bounded, detail=detail or {})
        stop = _STOPS.get(self._order)
        if stop is not None:
            raise stop
        if self._stopping.is_set():
            raise HandedBackError

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Beat no more; may be called twice."""
        self._ended.set()
        self._thread.join()

    def _beat_on(self) -> None:
        every_s = min(LONGEST_BEAT_S, self._lease.total_seconds() / 3)
        while not self._ended.wait(every_s) and self._order != Order.FENCED_OUT:
            self._beat()

    def _beat(self) -> None:
        try:
            self._order = self._store.beat(self._claim, self._progress, self._lease)
        except UnavailableError:
            # Work goes on: whether the lease held is decided by the fence when the job ends.
            log.warning("beat failed job=%s", self._claim.job.id)
