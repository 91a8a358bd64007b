"""The reaper as a thread of the gateway, so that the embedded stack needs no process for it."""

import logging
import threading
from datetime import timedelta
from types import TracebackType
from typing import Self

from service.jobs.reaper import Reaper
from service.settings import Settings
from service.stores.build import Stores

logger = logging.getLogger(__name__)


class Reaping:
    """Ticks the reaper while the block lasts."""

    def __init__(self, settings: Settings, stores: Stores) -> None:
        self._every_s = settings.reap_every_s
        self._reaper = Reaper(
            stores.jobs,
            stores.uploads,
            stores.blobs,
            stores.doorbell,
            every=timedelta(seconds=settings.reap_every_s),
            max_attempts=settings.max_attempts,
            retention=timedelta(hours=settings.retention_h),
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reaper", daemon=True)

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self._reaper.tick()
            except Exception as error:
                logger.error("reaper: unexpected %s", type(error).__name__)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=self._every_s)
