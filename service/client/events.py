"""A job's server-sent events, without I/O: what to ask for, and what the lines mean."""

from dataclasses import dataclass, field

from service.client.fetching import JobId
from service.client.retrying import Patience, pause_s
from service.client.steps import Call
from service.client.views import ENDED, Event
from service.errors import WarplineError


@dataclass
class EventFeed:
    """Follows one job across broken connections: each event comes once."""

    job_id: JobId
    after: int = 0
    has_ended: bool = False
    _patience: Patience = field(default_factory=Patience)
    _data: list[str] = field(default_factory=list)

    def call(self) -> Call:
        """The request that goes on after the last event seen."""
        self._data.clear()
        headers = {"accept": "text/event-stream", "last-event-id": str(self.after)}
        return Call("GET", f"/v1/jobs/{self.job_id}/events", headers=headers)

    def take(self, line: str) -> Event | None:
        """Read one line; an empty one ends an event (HTML standard, 9.2.6)."""
        self._patience.heard()
        if line:
            name, _, value = line.partition(":")
            if name == "data":
                self._data.append(value.removeprefix(" "))
            return None
        data, self._data = "\n".join(self._data), []
        if not data:
            return None
        event = Event.model_validate_json(data)
        if event.seq <= self.after:
            return None
        self.after = event.seq
        self.has_ended = event.type in ENDED
        return event

    def pause_s(self, error: WarplineError) -> float:
        """How long to wait before the next connection.

        Raises:
            WarplineError: Why this one failed, if another makes no sense or too many broke.
        """
        self._patience.failures += 1
        if not error.retryable or self._patience.failures >= self._patience.tries:
            raise error
        return pause_s(self._patience.failures, error.retry_after_s)
