"""Doorbells: tell workers that there may be work. Losing a ring costs seconds, never a job."""

import contextlib
import logging
import os
import queue as queues
import select
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from service.jobs.job import Queue
from service.stores.celery_app import RING_TASK, make_app

log = logging.getLogger(__name__)

# Rings that wait for a slow broker; more are dropped, for the reaper rings again.
MOST_PENDING = 1_000
CLOSE_TIMEOUT_S = 1.0


class PollDoorbell:
    """Wakes the worker processes of this machine, which poll the database anyway.

    Each waiting worker has a named pipe in `folder`; a ring writes a byte to every one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def ring(self, job_id: UUID, queue: Queue) -> None:  # noqa: ARG002 (a poller takes any job)
        with contextlib.suppress(OSError):
            for pipe in self._folder.glob("*.pipe"):
                _ring_pipe(pipe)

    def close(self) -> None:
        """Nothing is pending: a ring is written at once."""


def _ring_pipe(pipe: Path) -> None:
    try:
        descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:  # ENXIO: its worker is dead
        pipe.unlink(missing_ok=True)
        return
    try:
        os.write(descriptor, b".")
    except BlockingIOError:
        pass  # rung often enough already
    finally:
        os.close(descriptor)


class Listener:
    """A worker's ear at the doorbell: sleeps until a ring or a time-out."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._pipe = folder / f"{os.getpid()}.pipe"
        self._pipe.unlink(missing_ok=True)
        os.mkfifo(self._pipe, 0o600)
        # Open for both: with a reader only, select would see an end of file after each ring.
        self._descriptor = os.open(self._pipe, os.O_RDWR | os.O_NONBLOCK)

    def wait(self, timeout_s: float) -> bool:
        """Whether somebody rang within the time."""
        ready, _, _ = select.select([self._descriptor], [], [], timeout_s)
        if ready:
            os.read(self._descriptor, 4096)
        return bool(ready)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pipe.unlink(missing_ok=True)
        os.close(self._descriptor)


class CeleryDoorbell:
    """Sends `{"job_id"}` through Redis to the job's queue, from a thread of its own.

    `ring` only puts the message aside, so a broker that is down or frozen holds up no request.
    """

    def __init__(self, redis_url: str) -> None:
        self._redis_url = redis_url
        self._pending: queues.Queue[tuple[UUID, Queue] | None] = queues.Queue(MOST_PENDING)
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def ring(self, job_id: UUID, queue: Queue) -> None:
        self._start()
        try:
            self._pending.put_nowait((job_id, queue))
        except queues.Full:
            log.warning("ring dropped job=%s: the broker is slow", job_id)

    def close(self) -> None:
        """Give pending rings a second to leave."""
        if self._thread is not None and self._thread.is_alive():
            with contextlib.suppress(queues.Full):
                self._pending.put_nowait(None)
            self._thread.join(CLOSE_TIMEOUT_S)

    def _start(self) -> None:
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._publish, name="doorbell", daemon=True)
                self._thread.start()

    def _publish(self) -> None:
        app = make_app(self._redis_url)
        while (ring := self._pending.get()) is not None:
            self._send(app, *ring)
        app.close()

    def _send(self, app: Any, job_id: UUID, queue: Queue) -> None:
        try:
            app.send_task(RING_TASK, kwargs={"job_id": str(job_id)}, queue=str(queue), retry=False)
        except Exception as error:  # any of Celery's, kombu's or Redis': the reaper rings again
            log.warning("ring failed job=%s: %s", job_id, type(error).__name__)
