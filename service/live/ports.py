"""What a session works with: whoever makes its tracker, and the connection it has just now."""

from collections.abc import Generator
from typing import TYPE_CHECKING, Protocol

from service.errors import WarplineError
from service.live.opening import Opening
from service.registration.progress import Watch, unwatched
from service.registration.tracked import Calibration, Reference, Tracked
from service.registration.volume import Volume

if TYPE_CHECKING:
    from service.live.session import Session


class TracksFrames(Protocol):
    """`service.registration.tracking.Tracker`, as far as it is used here."""

    def step(
        self, frame: Volume, *, budget_s: float | None = None, watch: Watch = unwatched
    ) -> Tracked: ...

    def rehearse(self, frames: int = 3) -> Generator[None, None, Calibration]: ...


class MakesTracker(Protocol):
    """Loads the model and prepares the reference, on the engine's thread."""

    def __call__(self, opening: Opening, reference: Reference) -> TracksFrames: ...


class Listener(Protocol):
    """The connection that a session has just now."""

    def wake(self) -> None:
        """There may be something to send."""
        ...

    def refused(self, number: int, error: WarplineError) -> None:
        """A frame was not taken or not registered."""
        ...

    def end(self, error: WarplineError, *, is_kept: bool) -> None:
        """The connection is over, and why."""
        ...


class Witness(Protocol):
    """Whoever keeps the list of sessions."""

    def ready(self, session: "Session") -> None:
        """Its reference is prepared."""
        ...

    def ended(self, session: "Session", reason: str) -> None:
        """It is over: an error's code, `closed` or `expired`."""
        ...
