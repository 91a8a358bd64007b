"""Who had which live session, and when, in the audit log.

Nothing of what was sent is in it: shapes, never voxels, positions, points or times of acquisition.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from service.audit.log import DONE, AuditLog
from service.errors import AuditUnavailableError
from service.live.session import Session


class Audit:
    """Writes on a thread of its own, so that a slow disk delays no frame."""

    def __init__(self, log: AuditLog) -> None:
        """Write to this log; it is made when the first record comes."""
        self._log = log
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="audit")

    def note(self, event: str, session: Session, *, outcome: str = DONE, **more: Any) -> None:
        """Something happened to a session: `opened`, `ready`, `resumed`, `ended`."""
        opening = session.opening
        self._write(
            session.owner,
            event,
            outcome,
            session=session.id,
            model=opening.options.model,
            role=opening.role,
            reference_shape=opening.reference.grid.shape,
            frame_shape=opening.frame.grid.shape,
            **more,
        )

    def refused(self, owner: str, reason: str) -> None:
        """A session was not opened."""
        self._write(owner, "refused", reason)

    def close(self) -> None:
        """Wait until every record is written."""
        self._pool.shutdown(wait=True)

    def _write(self, owner: str, event: str, outcome: str, **facts: Any) -> None:
        self._pool.submit(self._noted, owner, f"live.{event}", facts, outcome)

    def _noted(self, owner: str, did: str, facts: dict[str, Any], outcome: str) -> None:
        with suppress(AuditUnavailableError):  # a session that runs goes on; the log was told
            self._log.note(owner, did, facts, outcome)
