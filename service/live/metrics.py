"""What Prometheus may know of live sessions: counts and durations, never an id, a name or a key."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from service.pb import warpline_pb2 as pb

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
STATES = ("receiving", "preparing", "ready")


@dataclass(frozen=True)
class LiveMetrics:
    """The figures of one process, in a registry that its gRPC server uses as well."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    _sessions: Gauge = field(init=False, repr=False)
    _ended: Counter = field(init=False, repr=False)
    _frames: Counter = field(init=False, repr=False)
    _refused: Counter = field(init=False, repr=False)
    _latency: Histogram = field(init=False, repr=False)
    _stages: Histogram = field(init=False, repr=False)

    def __post_init__(self) -> None:
        counters = {
            "_ended": (
                "warpline_live_sessions_ended",
                "Sessions that ended or were refused, by reason.",
                "reason",
            ),
            "_frames": ("warpline_live_frames", "Frames by what became of them.", "outcome"),
            "_refused": ("warpline_live_frames_refused", "Frames refused, by reason.", "reason"),
        }
        made: dict[str, object] = {
            name: Counter(metric, text, [label], registry=self.registry)
            for name, (metric, text, label) in counters.items()
        }
        made["_sessions"] = Gauge(
            "warpline_live_sessions", "Sessions by state.", ["state"], registry=self.registry
        )
        made["_latency"] = Histogram(
            "warpline_live_latency_seconds",
            "From a frame's last byte to its answer.",
            buckets=SECONDS,
            registry=self.registry,
        )
        made["_stages"] = Histogram(
            "warpline_live_stage_seconds",
            "Seconds of each stage of a frame.",
            ["stage"],
            buckets=SECONDS,
            registry=self.registry,
        )
        for name, metric in made.items():
            object.__setattr__(self, name, metric)

    def answered(self, head: pb.FrameAnswer) -> None:
        """A frame was answered."""
        self._frames.labels("cut-short" if head.is_cut_short else "answered").inc()
        self._latency.observe(head.latency_ms / 1000)
        for stage in head.stages:
            self._stages.labels(stage.name).observe(stage.ms / 1000)

    def refused(self, reason: str) -> None:
        """A frame was not taken or not registered; `reason` is the error's code."""
        self._frames.labels("refused").inc()
        self._refused.labels(reason).inc()

    def dropped(self) -> None:
        """A frame, or its answer, was overtaken."""
        self._frames.labels("dropped").inc()

    def ended(self, reason: str) -> None:
        """A session ended or was refused; `reason` is the error's code, `closed` or `expired`."""
        self._ended.labels(reason).inc()

    def count_sessions(self, count: Callable[[], Mapping[str, int]]) -> None:
        """Ask here how many sessions are in which state, each time that Prometheus asks."""
        for state in STATES:
            self._sessions.labels(state).set_function(_of(state, count))

    def exposition(self) -> bytes:
        """The page that Prometheus scrapes."""
        return generate_latest(self.registry)


def _of(state: str, count: Callable[[], Mapping[str, int]]) -> Callable[[], float]:
    return lambda: float(count().get(state, 0))
