"""Worker processes that train with the fake trainer: real stores, leases, groups and signals.

`python -m tests.integration.fake_training poll` and `... celery` are the two kinds of worker;
`... tasks PID` is what the second one's supervisor starts.
"""

import sys
import threading

from service.settings import Settings, settings
from service.stores.build import Stores
from service.worker import main as worker_main
from service.worker import making, supervisor, training
from service.worker.logs import set_up_logging
from service.worker.training import Training

FAKE = (sys.executable, "-m", "tests.fakes.fake_trainer")
real_training = making.make_training


def make_fake_training(config: Settings, stores: Stores) -> Training:
    """The real work around a trainer that only pretends."""
    return real_training(config, stores, FAKE)


def main(kind: str) -> None:
    making.make_training = make_fake_training  # type: ignore[assignment]
    # On a busy machine a checkpoint takes longer to be written and delivered.
    training.SAVE_WITHIN_S = training.DELIVER_WITHIN_S = 50.0
    supervisor.STOP_WITHIN_S = 150.0
    config = settings()
    set_up_logging("WARNING")
    if kind == "tasks":
        from service.worker import tasks

        tasks.main(int(sys.argv[-1]))
        return
    stopping = threading.Event()
    worker_main.stop_on_signals(stopping)
    if kind == "celery":
        supervisor.CELERY_MODULE = "tests.integration.fake_training_tasks"
        supervisor.watch_over_celery(config, stopping)
    else:
        worker_main.poll(config, making.make_work, stopping)


if __name__ == "__main__":
    main(sys.argv[1])
