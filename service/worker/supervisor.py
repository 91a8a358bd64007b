"""Watches over a Celery worker: starts it again when it exits, and looks for lost jobs."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time

from service.settings import Settings
from service.stores.build import open_stores
from service.worker.worker import reaper_of

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.2
# Celery's worker sometimes exits when Redis goes away; one that cannot start must not spin.
RESTART_PAUSE_S = 1.0
STOP_WITHIN_S = 15.0
CELERY_MODULE = "service.worker.tasks"


def watch_over_celery(config: Settings, stopping: threading.Event) -> None:
    """Keep one Celery worker running, and reap, until told to stop."""
    stores = open_stores(config)
    reaper = reaper_of(config, stores)
    child = _start()
    while not stopping.wait(LOOK_EVERY_S):
        reaper.tick()
        if child.poll() is not None:
            log.warning("celery exited code=%d", child.returncode)
            _kill_group(child, signal.SIGKILL)
            stopping.wait(RESTART_PAUSE_S)
            child = _start()
    _stop(child)
    stores.close()


def _start() -> "subprocess.Popen[bytes]":
    """A group of its own, so that the pool's child hears the signals too."""
    return subprocess.Popen(
        [sys.executable, "-m", CELERY_MODULE, str(os.getpid())], start_new_session=True
    )


def _stop(child: "subprocess.Popen[bytes]") -> None:
    """Ask all to hand their job back; what does not listen is killed and its lease runs out."""
    _kill_group(child, signal.SIGTERM)
    until = time.monotonic() + STOP_WITHIN_S
    while child.poll() is None and time.monotonic() < until:
        time.sleep(LOOK_EVERY_S)
    _kill_group(child, signal.SIGKILL)
    child.wait()


def _kill_group(child: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)
