"""Who had which live session, and when: lines of JSON that are only ever added to a file.

Nothing of what was sent is in it: shapes, never voxels, positions, points or times of acquisition.
"""

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from service.live.session import Session

logger = logging.getLogger(__name__)


class Audit:
    """Writes on a thread of its own, so that a slow disk delays no frame."""

    def __init__(self, path: Path) -> None:
        """Write to this file; it and its folder are made when the first line comes."""
        self._path = path
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="audit")

    def note(self, event: str, session: Session, **more: Any) -> None:
        """Something happened to a session: `opened`, `ready`, `resumed`, `ended`."""
        opening = session.opening
        self._write(
            event,
            owner=session.owner,
            session=session.id,
            model=opening.options.model,
            role=opening.role,
            reference_shape=opening.reference.grid.shape,
            frame_shape=opening.frame.grid.shape,
            **more,
        )

    def refused(self, owner: str, reason: str) -> None:
        """A session was not opened."""
        self._write("refused", owner=owner, reason=reason)

    def close(self) -> None:
        """Wait until every line is written."""
        self._pool.shutdown(wait=True)

    def _write(self, event: str, **facts: Any) -> None:
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"at": at, "event": event} | facts) + "\n"
        self._pool.submit(self._append, line)

    def _append(self, line: str) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            logger.error("the audit log cannot be written: %s", error.strerror)
