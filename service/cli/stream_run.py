"""`warpline stream` at work: frames go in as they come, answers are shown as they come."""

import sys
import threading
from collections import Counter
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from service.cli import screen
from service.cli.live_here import live_here
from service.cli.stream_results import (
    FrameFolder,
    line_of,
    refusal_of,
    summary_of,
    write_line,
)
from service.cli.stream_setup import (
    Prepared,
    Said,
    Source,
    as_announced,
    limits_here,
    open_source,
    prepare,
)
from service.cli.stream_table import Shown, showing, totals
from service.client.live import LiveSession
from service.client.live_answers import LiveAnswer
from service.client.live_talk import Readiness
from service.client.live_terms import LiveTerms
from service.errors import WarplineError
from service.rpc.allocator import keep_message_buffers

LOG = "answers.jsonl"
POLL_S = 0.2


@dataclass(frozen=True, kw_only=True)
class Wish:
    """Where the session is, what is kept, when it ends, how it is shown."""

    url: str | None
    api_key: str | None
    out: Path | None
    frames: int | None
    as_json: bool


@dataclass
class Run:
    """One session from the first frame to the last answer."""

    session: LiveSession
    prepared: Prepared
    wish: Wish
    shown: Shown
    log: TextIO | None
    names: dict[int, str] = field(default_factory=dict)
    verdicts: Counter[str] = field(default_factory=Counter)
    error: BaseException | None = None
    _has_ended: threading.Event = field(default_factory=threading.Event)
    _told_refusals: int = 0

    def go(self, source: Source, terms: LiveTerms) -> None:
        """Send in a thread, show here.

        Raises:
            WarplineError: Why the session, or the source of frames, ended.
        """
        sender = threading.Thread(target=self._send, args=(source, terms), daemon=True)
        sender.start()
        try:
            # Answers that were told: others may have come that nobody has seen yet.
            while self.verdicts.total() < (self.wish.frames or sys.maxsize):
                answer = self.session.next_answer(POLL_S)
                self._tell_refusals()
                if answer is not None:
                    self._tell(answer)
                elif self._has_ended.is_set() and self.session.is_settled:
                    break
        finally:
            self._has_ended.set()
        if self.error is not None:
            raise self.error

    def _send(self, source: Source, terms: LiveTerms) -> None:
        try:
            for number, frame in enumerate(source.frames(), 1):  # as the session counts them
                if self._has_ended.is_set():
                    return
                self.names[number] = frame.name
                voxels = as_announced(frame.volume, terms)
                affine = frame.volume.grid.affine
                self.session.send(voxels, affine, acquired_at=frame.acquired_at)
        except (WarplineError, OSError) as error:
            self.error = error
        finally:
            self._has_ended.set()

    def _tell(self, answer: LiveAnswer) -> None:
        name = self.names.pop(answer.number, str(answer.number))
        self.verdicts[answer.verdict] += 1
        files: list[str] = []
        if self.wish.out is not None:
            names = self.prepared.points.ids if self.prepared.points else None
            files = FrameFolder(self.wish.out, names).write(name, answer)
        if not self.wish.as_json:
            self.shown.tell(name, answer)
        self._write(line_of(name, answer, files))

    def _tell_refusals(self) -> None:
        refusals = self.session.refusals
        for number, error in refusals[self._told_refusals :]:
            name = self.names.pop(number, str(number))
            if not self.wish.as_json:
                screen.note(f"{name} was refused: {error.detail}")
            self._write(refusal_of(name, number, error))
        self._told_refusals = len(refusals)

    def _write(self, line: dict[str, Any]) -> None:
        if self.wish.as_json:
            write_line(sys.stdout, line)
        if self.log is not None:
            write_line(self.log, line)


def run(said: Said, wish: Wish) -> int:
    """Stream until there are no more frames, or Ctrl-C; gives the number of answers."""
    keep_message_buffers()
    limits = limits_here()
    prepared = prepare(said, limits)
    with ExitStack() as opened:
        if said.watch is not None and not wish.as_json:
            screen.note(f"Waiting for the first volume in {said.watch} ...")
        source = opened.enter_context(open_source(said, prepared, limits))
        url = opened.enter_context(nullcontext(wish.url) if wish.url else live_here())
        terms = prepared.terms_for(source.first)
        image = prepared.reference
        session = opened.enter_context(
            LiveSession(url, image.data, image.grid.affine, api_key=wish.api_key, **terms)
        )
        ready = session.wait_until_ready()
        if not wish.as_json:
            _tell_ready(ready)
        return _run(session, prepared, wish, source, terms)


def _run(
    session: LiveSession, prepared: Prepared, wish: Wish, source: Source, terms: LiveTerms
) -> int:
    shown = Shown(session.counters)
    with ExitStack() as opened:
        log = None
        if wish.out is not None:
            wish.out.mkdir(parents=True, exist_ok=True)
            log = opened.enter_context((wish.out / LOG).open("w", encoding="utf-8"))
        made = Run(session, prepared, wish, shown, log)
        with suppress(KeyboardInterrupt), showing(shown, is_shown=not wish.as_json):
            made.go(source, terms)
    counters = session.counters
    if wish.as_json:
        write_line(sys.stdout, {"summary": summary_of(counters, dict(made.verdicts))})
    else:
        screen.note(totals(counters))
    return made.verdicts.total()


def _tell_ready(ready: Readiness) -> None:
    screen.note(
        f"Ready: about {ready.expected_p50_ms:.0f} ms a frame, 95 of 100 within "
        f"{ready.expected_p95_ms:.0f} ms, measured on that machine."
    )
    for warning in ready.warnings:
        screen.note(f"! {warning}")
