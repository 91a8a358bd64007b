"""Worker processes with real stores, leases and uploads, but work that takes milliseconds.

`python -m tests.integration.light poll` and `... celery` are the two kinds of worker;
`... tasks PID` is what the second one's supervisor starts. `WARPLINE_TEST_KILL_AT` names a point
at which the process kills itself.
"""

import os
import random
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from service.jobs.job import Job
from service.jobs.runner import Outcome, Output, Watch, Work
from service.settings import Settings, settings
from service.stores.build import Stores, open_stores
from service.worker import main as worker_main
from service.worker import supervisor
from service.worker.logs import set_up_logging

STAGES = ("initialise", "predict", "refine")


def expected(data: bytes) -> bytes:
    """What a job makes of its input."""
    return data[::-1]


def make_light_work(_config: Settings, stores: Stores) -> Work:
    """Turn the input round, slowly enough to be killed on the way."""

    def work(job: Job, folder: Path, watch: Watch) -> Outcome:
        data = stores.blobs.get_bytes(str(job.request.inputs["fixed"].key))
        until = time.monotonic() + float(job.request.options.get("seconds", 0.05))
        while time.monotonic() < until:
            watch(random.choice(STAGES), 0.5)
            time.sleep(0.005)
        (folder / "result").write_bytes(expected(data))
        (folder / "report").write_text("{}")
        return Outcome(
            {
                "warped.nii.gz": Output(folder / "result", "application/gzip"),
                "report.json": Output(folder / "report", "application/json"),
            }
        )

    return work


# A second job has been claimed, beside one that is on its way out.
claimed_again = threading.Event()


class KillPoints:
    """A store or object store that kills its process before or after one of its verbs.

    `beside-VERB` is before it, but only once another job has been claimed.
    """

    claims = 0

    def __init__(self, real: Any, point: str) -> None:
        self._real = real
        self._when, self._verb = point.split("-", 1)

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._real, name)
        if name == "claim" and self._when == "beside":
            return self._claim
        if name != self._verb:
            return verb

        def killing(*arguments: Any, **options: Any) -> Any:
            if self._when == "beside":
                claimed_again.wait(120)
            if self._when in ("before", "beside"):
                os.kill(os.getpid(), signal.SIGKILL)
            answer = verb(*arguments, **options)
            if name != "claim" or answer is not None:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        return killing

    def _claim(self, *arguments: Any) -> Any:
        claim = self._real.claim(*arguments)
        self.claims += claim is not None
        if self.claims == 2:
            claimed_again.set()
        return claim


def stores_that_kill(config: Settings) -> Stores:
    """The real stores, wrapped where `WARPLINE_TEST_KILL_AT` says so."""
    stores, point = open_stores(config), os.environ.get("WARPLINE_TEST_KILL_AT")
    if not point:
        return stores
    jobs, blobs = KillPoints(stores.jobs, point), KillPoints(stores.blobs, point)
    return replace(stores, jobs=jobs, blobs=blobs)


def main(kind: str) -> None:
    config = settings()
    set_up_logging("WARNING")
    stopping = threading.Event()
    if kind == "tasks":
        _run_tasks()
    elif kind == "celery":
        supervisor.CELERY_MODULE = "tests.integration.light_tasks"
        supervisor.STOP_WITHIN_S = 100.0  # a busy machine is late in handing back
        worker_main.stop_on_signals(stopping)
        supervisor.watch_over_celery(config, stopping)
    else:
        worker_main.open_stores = stores_that_kill
        worker_main.stop_on_signals(stopping)
        worker_main.poll(config, make_light_work, stopping)


def _run_tasks() -> None:
    """The Celery side with light work in the place of the science."""
    light = ModuleType("service.worker.registration")
    light.make_work = make_light_work
    sys.modules["service.worker.registration"] = light
    from service.worker import tasks

    tasks.main(int(sys.argv[-1]))


if __name__ == "__main__":
    main(sys.argv[1])
