"""A folder into which a scanner exports volumes: each file once, when it is complete."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from service.cli.scanner import Acquired

if TYPE_CHECKING:
    from service.registration.volume import Volume

ENDINGS = (".nii", ".nii.gz", ".nrrd", ".mha")
POLL_S = 0.05
SETTLE_S = 0.2

Stamp = tuple[int, int]


@dataclass
class WatchedFolder:
    """Looks for files again and again.

    A file is taken when it has not changed for `settle_s` and can be read to its last byte; one
    that cannot is looked at again when it has changed. Hidden files, and names that do not end as
    volumes do (`.part`, `.tmp`), are passed over until they are renamed. A file that is written
    anew is a new frame.
    """

    folder: Path
    read: Callable[[Path], "Volume | None"]
    settle_s: float = SETTLE_S
    wait: Callable[[float], object] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _done: dict[str, Stamp] = field(default_factory=dict)
    _changed: dict[str, tuple[Stamp, float]] = field(default_factory=dict)

    def forget_what_is_there(self) -> None:
        """Take only what comes from now on."""
        self._done = dict(self._stamps())

    def look(self) -> Iterator[Acquired]:
        """Files that became complete since the last look, the oldest first."""
        now_s, settled = self.clock(), []
        for name, stamp in self._stamps():
            if self._done.get(name) == stamp:
                continue
            known, since_s = self._changed.get(name, (None, now_s))
            if known != stamp:
                self._changed[name] = (stamp, now_s)
            elif now_s - since_s >= self.settle_s:
                settled.append((stamp[1], name, stamp))
        for written_ns, name, stamp in sorted(settled):
            self._done[name] = stamp
            del self._changed[name]
            if (volume := self.read(self.folder / name)) is not None:
                yield Acquired(name, volume, datetime.fromtimestamp(written_ns / 1e9, UTC))

    def frames(self, should_stop: Callable[[], bool] = lambda: False) -> Iterator[Acquired]:
        """Files as they become complete, until told to stop."""
        while not should_stop():
            yield from self.look()
            self.wait(POLL_S)

    def _stamps(self) -> Iterator[tuple[str, Stamp]]:
        for path in self.folder.iterdir():
            if path.name.startswith(".") or not path.name.lower().endswith(ENDINGS):
                continue
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            yield path.name, (status.st_size, status.st_mtime_ns)
