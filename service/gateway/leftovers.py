"""Folders of requests: held while the request lasts, removed when their process was killed."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

LOOK_EVERY_S = 600.0
# A folder is made first and held a moment later.
YOUNGEST_S = 60.0


@dataclass
class HeldFolders:
    """New folders below a root that several processes may share."""

    root: Path
    _next_look: float = 0.0

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A folder that only this process reads and that is gone afterwards, errors or not."""
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_EVERY_S
            self.remove_leftovers()
        made = Path(tempfile.mkdtemp(dir=self.root))
        hold = _held(made)
        try:
            yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)
            if hold is not None:
                os.close(hold)

    def remove_leftovers(self) -> int:
        """Remove the folders of processes that were killed; how many there were."""
        removed = 0
        for folder in self.root.iterdir():
            with suppress(OSError):  # its process has just removed it
                is_old = time.time() - folder.stat().st_mtime > YOUNGEST_S
                if is_old and (hold := _held(folder)) is not None:
                    shutil.rmtree(folder, ignore_errors=True)
                    os.close(hold)
                    removed += 1
        return removed


def _held(folder: Path) -> int | None:
    """Hold a folder until the descriptor is closed or the process ends; None: another one does."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
