"""Every session of this process: how many there may be, whose they are, when they expire."""

import time
from collections import Counter

from service.errors import LiveFullError, LiveQuotaExceededError, SessionNotFoundError
from service.live.audit import Audit
from service.live.metrics import LiveMetrics
from service.live.opening import Opening
from service.live.ports import MakesTracker
from service.live.session import Session
from service.settings import Settings

MIB = 1 << 20
# Room may be there again when a session has expired.
RETRY_AFTER_S = 30.0


class Sessions:
    """Sessions by id. Those without a connection are kept for their time to live."""

    def __init__(
        self,
        config: Settings,
        make: MakesTracker,
        metrics: LiveMetrics,
        audit: Audit,
    ) -> None:
        """Begin without sessions.

        Args:
            config: Limits.
            make: Makes the tracker of each.
            metrics: Told of frames, and how sessions end.
            audit: Told what happens to them.
        """
        self._config = config
        self._make = make
        self._metrics = metrics
        self._audit = audit
        self._sessions: dict[str, Session] = {}
        metrics.count_sessions(lambda: Counter(s.state for s in list(self._sessions.values())))

    def all(self) -> list[Session]:
        """Every session there is."""
        return list(self._sessions.values())

    def open(self, owner: str, opening: Opening) -> Session:
        """A new session.

        Raises:
            LiveQuotaExceededError: If this owner has too many, or too much memory for them.
            LiveFullError: If all owners together do.
        """
        self.require_room(owner, opening)
        session = Session(owner, opening, self._make, self._metrics, self)
        self._sessions[session.id] = session
        self._audit.note("opened", session)
        return session

    def find(self, session_id: str, owner: str) -> Session:
        """A session to go on with.

        Raises:
            SessionNotFoundError: If there is none, or it is another owner's.
        """
        session = self._sessions.get(session_id)
        if session is None or session.is_ended or session.owner != owner:
            raise SessionNotFoundError(
                "There is no such live session of yours; it may have expired, or the process was "
                "started again. Open a new one, with its reference.",
                field="session_id",
            )
        self._audit.note("resumed", session)
        return session

    def refused(self, owner: str, reason: str) -> None:
        """A session was not opened or not found; `reason` is the error's code."""
        self._metrics.ended(reason)
        self._audit.refused(owner, reason)

    def ready(self, session: Session) -> None:
        """A session's reference is prepared; says what the figures of its rehearsal leave out."""
        others = sum(
            other.state == "ready" and other.listener is not None
            for other in self.all()
            if other is not session
        )
        if others and session.ready is not None:
            session.ready.warnings.append(
                f"Sessions that share this engine: {others} more. A frame may have to wait for a "
                "frame of each of them; the expected times are without that."
            )
        self._audit.note("ready", session)

    def ended(self, session: Session, reason: str) -> None:
        """Forget a session that has ended."""
        if self._sessions.pop(session.id, None) is None:
            return
        self._metrics.ended(reason)
        self._audit.note(
            "ended",
            session,
            reason=reason,
            answered=session.answered,
            dropped=session.door.dropped,
        )

    def expire(self) -> None:
        """End the sessions whose time to live without a connection is over."""
        until_s = time.monotonic() - self._config.live_ttl_s
        for session in self.all():
            if session.listener is None and session.alone_since_s < until_s:
                session.end(reason="expired")

    def require_room(self, owner: str, opening: Opening) -> None:
        """Look whether there is room for a session; raises as `open` does."""
        mine = [session for session in self._sessions.values() if session.owner == owner]
        config, wanted = self._config, opening.memory_bytes
        if len(mine) >= config.live_sessions_per_key:
            raise LiveQuotaExceededError(
                f"This key has {len(mine)} live sessions, as many as one key may have. Close one.",
                retry_after_s=RETRY_AFTER_S,
            )
        if _memory(mine) + wanted > config.live_memory_per_key_mib * MIB:
            raise LiveQuotaExceededError(
                f"The session needs {wanted // MIB} MiB, and one key may have "
                f"{config.live_memory_per_key_mib} MiB. Close a session, or ask for less.",
                retry_after_s=RETRY_AFTER_S,
            )
        if (
            len(self._sessions) >= config.live_max_sessions
            or _memory(self.all()) + wanted > config.live_memory_mib * MIB
        ):
            raise LiveFullError(
                "This machine has as many live sessions as it can hold. Try again later.",
                retry_after_s=RETRY_AFTER_S,
            )


def _memory(sessions: list[Session]) -> int:
    return sum(session.opening.memory_bytes for session in sessions)
