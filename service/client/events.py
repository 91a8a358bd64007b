"""A job's server-sent events, without I/O: what to ask for, and what the lines mean."""

from dataclasses import dataclass, field

from service.client.fetching import JobId
from service.client.retrying import TRIES, pause_s
from service.client.steps import Call
from service.client.views import ENDED, Event
from service.errors import UnavailableError


@dataclass
class EventFeed:
    """Follows one job across broken connections: each event comes once."""

    job_id: JobId
    after: int = 0
    has_ended: bool = False
    _failures: int = 0
    _data: list[str] = field(default_factory=list)

    def call(self) -> Call:
        """The request that goes on after the last event seen."""
        self._data.clear()
        headers = {"accept": "text/event-stream", "last-event-id": str(self.after)}
        return Call("GET", f"/v1/jobs/{self.job_id}/events", headers=headers)

    def take(self, line: str) -> Event | None:
        """Read one line; an empty one ends an event (HTML standard, 9.2.6)."""
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
        self.after, self._failures = event.seq, 0
        self.has_ended = event.type in ENDED
        return event

    def pause_s(self, reason: str) -> float:
        """How long to wait before the next connection.

        Raises:
            UnavailableError: If connections kept breaking without an event.
        """
        self._failures += 1
        if self._failures > TRIES:
            raise UnavailableError(f"The server does not answer ({reason}). Is it running?")
        return pause_s(self._failures, None)
