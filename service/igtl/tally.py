"""What has happened so far, for the table and the summary. Safe to use from every thread."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from service.errors import WarplineError
from service.igtl.session import Answer, Unanswered

LATENCIES = 1000
SAME_NOTE_S = 5.0  # a sentence of the same kind is not said again sooner

Say = Callable[[str], None]


@dataclass
class Tally:
    """Counts and the latest figures."""

    say: Say = lambda _sentence: None  # takes a sentence that is worth reading
    images: int = 0
    sent: int = 0
    overtaken: int = 0  # by newer frames, here or in the session
    refused: int = 0
    peers: int = 0
    connections: int = 0  # since the start
    reconnects: int = 0  # of the session
    service: str = "waiting for the first image"
    last: Answer | None = None
    verdicts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)  # by code
    _latencies: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES))
    _said: dict[str, float] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def add(self, **counts: int) -> None:
        """Add to counts by name."""
        with self._lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)

    def answered(self, answer: Answer) -> None:
        """An answer has come."""
        with self._lock:
            self.verdicts[answer.verdict] += 1
            self._latencies.append(answer.latency_ms)
            self.last = answer

    def unanswered(self, event: Unanswered) -> None:
        """Frames will have no answer."""
        if not event.code:
            self.add(overtaken=event.count)
            return
        self.add(refused=event.count)
        self.fault(event.code, event.reason)

    def wrong(self, error: WarplineError) -> None:
        """Something went wrong, and the bridge goes on."""
        self.fault(error.slug, error.detail)

    def fault(self, code: str, sentence: str) -> None:
        """Count a fault and say it, unless one like it was said just now."""
        with self._lock:
            self.faults[code] += 1
        self.note(code, f"{code}: {sentence}")

    def note(self, kind: str, sentence: str) -> None:
        """Say a sentence, unless one of its kind was said just now."""
        now = time.monotonic()
        with self._lock:
            if now - self._said.get(kind, -SAME_NOTE_S) < SAME_NOTE_S:
                return
            self._said[kind] = now
        self.say(sentence)

    @property
    def answers(self) -> int:
        return sum(self.verdicts.values())

    def latency_ms(self, percent: float) -> float | None:
        """A percentile of the latest latencies."""
        with self._lock:
            return float(np.percentile(self._latencies, percent)) if self._latencies else None

    def summary(self) -> dict[str, object]:
        """Everything that was counted, for `--json`."""
        with self._lock:
            return {
                "images": self.images,
                "sent": self.sent,
                "answers": self.answers,
                "overtaken": self.overtaken,
                "refused": self.refused,
                "verdicts": dict(self.verdicts),
                "faults": dict(self.faults),
                "latency_ms": {"p50": self.latency_ms(50), "p95": self.latency_ms(95)},
                "connections": self.connections,
                "reconnects": self.reconnects,
            }
