"""Where frames wait for the session."""

import threading
from collections import deque

from service.igtl.frames import Frame

POLL_S = 0.1
ROOM = 2  # frames that wait when every one is to be taken


class Mailbox:
    """Holds the newest frame; or, where every frame is to be taken, a few, and then blocks."""

    def __init__(self, *, takes_every: bool = False) -> None:
        self._takes_every = takes_every
        self._frames: deque[Frame] = deque()
        self._changed = threading.Condition()
        self._is_closed = False

    def put(self, frame: Frame) -> int:
        """Leave a frame; tells how many it overtook."""
        with self._changed:
            if self._takes_every:
                self._changed.wait_for(lambda: len(self._frames) < ROOM or self._is_closed)
            overtaken = 0 if self._takes_every else len(self._frames)
            if not self._takes_every:
                self._frames.clear()
            self._frames.append(frame)
            self._changed.notify_all()
            return overtaken

    def put_back(self, frame: Frame) -> None:
        """Return a frame that was taken; a newer one has precedence."""
        with self._changed:
            if self._takes_every or not self._frames:
                self._frames.appendleft(frame)

    def take(self, stop: threading.Event) -> Frame | None:
        """The next frame; nothing if none came for a moment, or on stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._frames or stop.is_set(), POLL_S)
            if not self._frames or stop.is_set():
                return None
            frame = self._frames.popleft()
            self._changed.notify_all()
            return frame

    def close(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
