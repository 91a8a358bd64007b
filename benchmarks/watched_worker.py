"""`service.worker.main` with the steps of its jobs timed; started by `benchmarks.workers`."""

import functools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Names the file that gets a line for each call.
TRACE = "WARPLINE_BENCHMARK_TRACE"


def watched(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
    """The same, which tells when it ended and how long it took."""

    @functools.wraps(work)
    def timed(*args: Any, **options: Any) -> Any:
        started = time.perf_counter()
        try:
            return work(*args, **options)
        finally:
            line = json.dumps([name, time.time(), time.perf_counter() - started]) + "\n"
            with Path(os.environ[TRACE]).open("a") as file:
                file.write(line)

    return timed


def watch_steps() -> None:
    """Have the steps of jobs timed; to be called before there are any."""
    from service.jobs.runner import Runner
    from service.stores.sql_jobs import SqlJobStore
    from service.worker.work import Registration

    for owner, method, name in (
        (SqlJobStore, "claim", "claim"),
        (Registration, "_fetch", "fetch"),
        (Registration, "__call__", "fetch and register"),
        (Runner, "_deliver", "deliver"),
        (SqlJobStore, "succeed", "commit"),
        (SqlJobStore, "beat", "beat"),
    ):
        setattr(owner, method, watched(name, getattr(owner, method)))


def main(supervisor: int | None) -> None:
    """The worker, or the Celery side of it."""
    watch_steps()
    if supervisor is not None:
        from service.worker import tasks

        tasks.main(supervisor)
        return
    from service.worker import main as worker_main
    from service.worker import supervisor as watching

    watching.CELERY_MODULE = "benchmarks.watched_worker"
    worker_main.main()


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else None)
