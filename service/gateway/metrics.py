"""What Prometheus may know: counts and durations by route, never an id, a name or a key."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from service.jobs.job import State
from service.jobs.ports import JobStore

SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@dataclass(frozen=True)
class Metrics:
    """One registry an app, so that two apps in one process do not share their counts."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        made = {
            "_requests": Counter(
                "warpline_http_requests",
                "Requests answered.",
                ["method", "route", "status"],
                registry=self.registry,
            ),
            "_seconds": Histogram(
                "warpline_http_request_seconds",
                "Seconds until a request's answer was sent.",
                ["route"],
                buckets=SECONDS,
                registry=self.registry,
            ),
            "_jobs": Gauge("warpline_jobs", "Jobs by state.", ["state"], registry=self.registry),
            "_oldest": Gauge(
                "warpline_queue_age_seconds",
                "Age of the job that has waited longest; 0 when none waits.",
                registry=self.registry,
            ),
        }
        for name, metric in made.items():
            object.__setattr__(self, name, metric)

    _requests: Counter = field(init=False, repr=False)
    _seconds: Histogram = field(init=False, repr=False)
    _jobs: Gauge = field(init=False, repr=False)
    _oldest: Gauge = field(init=False, repr=False)

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Record one answered request; `route` is the template, such as `/v1/jobs/{job_id}`."""
        known = method if method in METHODS else "other"
        self._requests.labels(known, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def exposition(self, jobs: JobStore) -> bytes:
        """The page that Prometheus scrapes, with the job table as it is now."""
        counts = jobs.counts()
        for state in State:
            self._jobs.labels(state.value).set(counts.get(state, 0))
        self._oldest.set(_oldest_age_s(jobs) if counts.get(State.QUEUED) else 0)
        return generate_latest(self.registry)


def _oldest_age_s(jobs: JobStore) -> float:
    """Seconds since the oldest queued job came in, from at most ten pages of the queue."""
    cursor: str | None = None
    oldest: datetime | None = None
    for _ in range(10):
        page = jobs.page(None, states=[State.QUEUED], limit=1000, cursor=cursor)
        oldest = page.jobs[-1].created_at if page.jobs else oldest
        cursor = page.cursor
        if cursor is None:
            break
    return max(0.0, (datetime.now(UTC) - oldest).total_seconds()) if oldest else 0.0
