"""The Celery side: a ring makes the pool's child take whatever job waits.

Run by the supervisor as `python -m service.worker.tasks SUPERVISOR_PID`.
"""

import ctypes
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from celery.signals import setup_logging

from service.settings import settings
from service.stores.build import open_stores
from service.stores.celery_app import DRAIN_S, RING_TASK, make_app
from service.worker.logs import set_up_logging
from service.worker.worker import Worker, queues_of

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1  # linux/prctl.h

stopping = threading.Event()


def ring(job_id: str) -> None:
    """Somebody rang for a job: take jobs until none waits, this one or another.

    When this one is taken already nothing is lost: it had been rung for before.
    """
    until = time.monotonic() + DRAIN_S
    with _handing_back():
        done = _worker().work_off(lambda: time.monotonic() < until)
    log.debug("ring job=%s done=%d", job_id, done)


@contextmanager
def _handing_back() -> Iterator[None]:
    """While a job runs SIGTERM hands it back; an idle child of the pool ends as Celery wants.

    Set here, for the pool sets its own handlers after its last signal to us.
    """
    before = signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@lru_cache(maxsize=1)
def _worker() -> Worker:
    """Made in the pool's child at its first ring: connections and sessions do not survive forks."""
    from service.worker.making import make_work

    config = settings()
    stores = open_stores(config)
    worker = Worker.of(config, stores, make_work(config, stores), stopping)
    worker.clear_scratch()
    return worker


def make_worker_app(redis_url: str) -> Any:
    """The app that a Celery worker runs."""
    app = make_app(redis_url)
    app.task(name=RING_TASK, ignore_result=True)(ring)
    return app


def _log_our_way(**_: Any) -> None:
    set_up_logging(settings().log_level)


def _end_with(supervisor: int) -> None:
    """Let the kernel stop this process when its supervisor is killed; elsewhere it is orphaned,
    which the fence makes harmless."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != supervisor:
            sys.exit(0)


def main(supervisor: int) -> None:
    _end_with(supervisor)
    config = settings()
    setup_logging.connect(_log_our_way)
    app = make_worker_app(str(config.redis_url))
    queues = ",".join(queues_of(config))
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    pool = ["--pool=prefork", "--concurrency=1", f"--queues={queues}"]
    app.worker_main(["--quiet", "worker", *pool, *quiet])


if __name__ == "__main__":
    main(int(sys.argv[1]))
