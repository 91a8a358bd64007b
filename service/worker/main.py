"""One worker process: `python -m service.worker.main`.

Embedded, it polls the database, woken by a local doorbell. With Redis it watches over a Celery
worker, which it starts again when that exits. Both look for lost jobs on the way.
"""

import logging
import signal
import threading
from collections.abc import Callable
from types import FrameType

from service.errors import UnavailableError
from service.jobs.runner import Work
from service.settings import Settings, settings
from service.stores.build import Stores, bell_folder, open_stores
from service.stores.doorbell import Listener
from service.worker.logs import set_up_logging
from service.worker.supervisor import watch_over_celery
from service.worker.worker import Worker, reaper_of

log = logging.getLogger(__name__)

# Makes the work of this process; called after any fork.
MakeWork = Callable[[Settings, Stores], Work]

# A process without a database waits this long before it looks again.
OUTAGE_PAUSE_S = 1.0


def real_work(config: Settings, stores: Stores) -> Work:
    """The real work. Imported late: compiled kernels and runtimes belong to this process only."""
    from service.worker.making import make_work

    return make_work(config, stores)


def poll(config: Settings, make_work: MakeWork, stopping: threading.Event) -> None:
    """Take and do jobs until told to stop."""
    stores = open_stores(config)
    reaper = reaper_of(config, stores)
    worker = Worker.of(config, stores, make_work(config, stores), stopping)
    worker.clear_scratch()
    log.info("worker=%s queues=%s", worker.name, config.queues)

    def look_for_lost_jobs() -> bool:
        reaper.tick()
        return True

    with Listener(bell_folder(config)) as bell:
        while not stopping.is_set():
            try:
                if worker.work_off(look_for_lost_jobs) == 0:
                    bell.wait(config.poll_every_s)
            except UnavailableError as error:
                log.warning("worker=%s %s", worker.name, error.slug)
                stopping.wait(OUTAGE_PAUSE_S)
    stores.close()


def stop_on_signals(stopping: threading.Event) -> None:
    """SIGTERM and SIGINT hand the job back at its next step; the loop then ends."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


def main() -> None:
    config = settings()
    set_up_logging(config.log_level)
    stopping = threading.Event()
    stop_on_signals(stopping)
    if config.is_embedded:
        poll(config, real_work, stopping)
    else:
        watch_over_celery(config, stopping)


if __name__ == "__main__":
    main()
