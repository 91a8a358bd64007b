"""What Prometheus may know of calls: counts and durations by method, never an id or a key."""

from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


@dataclass(frozen=True)
class CallMetrics:
    """The figures of one process's gRPC server, in a registry that others may use as well."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    _calls: Counter = field(init=False, repr=False)
    _open: Gauge = field(init=False, repr=False)
    _seconds: Histogram = field(init=False, repr=False)

    def __post_init__(self) -> None:
        made = {
            "_calls": Counter(
                "warpline_grpc_calls",
                "Calls that have ended.",
                ["method", "code"],
                registry=self.registry,
            ),
            "_open": Gauge(
                "warpline_grpc_open_calls",
                "Calls that are open now.",
                ["method"],
                registry=self.registry,
            ),
            "_seconds": Histogram(
                "warpline_grpc_call_seconds",
                "Seconds from a call's begin to its end.",
                ["method"],
                buckets=SECONDS,
                registry=self.registry,
            ),
        }
        for name, metric in made.items():
            object.__setattr__(self, name, metric)

    def begin(self, method: str) -> None:
        """A call begins; `method` is one that exists, or `unmatched`."""
        self._open.labels(method).inc()

    def end(self, method: str, code: str, seconds: float) -> None:
        """It ended with this status code's name."""
        self._open.labels(method).dec()
        self._calls.labels(method, code).inc()
        self._seconds.labels(method).observe(seconds)
