"""Where an association's thread waits while another one sends a request and hears its answer."""

import threading
from typing import Any


class Checkpoint:
    """In the place of pynetdicom's own, which lets go of the thread before it says so.

    Whoever sends closes the checkpoint and goes on once the association says that it waits. The
    library's says that still for a moment after it went through. If a busy machine stretches the
    moment, the association's thread takes the answer for a request that nobody expects, throws it
    away, and the sender waits for it until its time is up. Here going through and saying so are
    one step.
    """

    def __init__(self, association: Any) -> None:
        self._association = association
        self._changed = threading.Condition()
        self._is_open = True

    def is_set(self) -> bool:
        """Whether it is open."""
        return self._is_open

    def set(self) -> None:
        """Let the association's thread through."""
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    def clear(self) -> None:
        """Hold it from now on; whoever is through already has said so."""
        with self._changed:
            self._is_open = False

    def wait(self) -> None:
        """Wait until it is open, and say that the association waits no longer."""
        with self._changed:
            self._changed.wait_for(self.is_set)
            self._association._is_paused = False
