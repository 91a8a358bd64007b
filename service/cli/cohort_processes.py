"""Subjects N at a time, each process with an engine and a fixed image of its own.

A process that dies (for want of memory, say) takes no other with it: its subject is tried once
more, and then stands as failed.
"""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Protocol

from service.cli.cohort_folder import put_problem
from service.cli.cohort_list import Subject
from service.cli.cohort_subject import Ended, Terms, clear_scratch, registering
from service.errors import WorkerLostError

MOST_TRIES = 2
# A step of the progress that is not worth a message.
LEAST_STEP = 0.02


class Watcher(Protocol):
    """Who is told how the subjects fare."""

    def stage(self, subject: Subject, stage: str, fraction: float) -> None: ...
    def ended(self, subject: Subject, ended: Ended) -> None: ...


def run_here(terms: Terms, subjects: Iterable[Subject], watcher: Watcher) -> None:
    """One after the other in this process."""
    with registering(terms) as register:
        for subject in subjects:
            ended = register(subject, _teller(watcher, subject))
            watcher.ended(subject, ended)


def _teller(watcher: Watcher, subject: Subject) -> Callable[[str, float], None]:
    return lambda stage, fraction: watcher.stage(subject, stage, fraction)


@dataclass
class _Child:
    process: SpawnProcess
    line: Connection
    subject: Subject | None = None


@dataclass
class Crew:
    """The processes, and the subjects that wait for one of them."""

    terms: Terms
    count: int
    watcher: Watcher
    threads: int = 1
    _children: list[_Child] = field(default_factory=list)
    _waiting: deque[Subject] = field(default_factory=deque)
    _tries: dict[str, int] = field(default_factory=dict)

    def run(self, subjects: Iterable[Subject]) -> None:
        """Register every subject; when this is stopped, no process stays behind."""
        self._waiting.extend(subjects)
        try:
            for _ in range(min(self.count, len(self._waiting))):
                self._start()
            while self._children:
                self._listen()
        finally:
            for child in self._children:
                child.process.terminate()
            for child in self._children:
                child.process.join()
                child.line.close()
            clear_scratch(self.terms.root)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        line, far_end = context.Pipe()
        process = context.Process(target=_serve, args=(far_end, self.terms, self.threads))
        process.start()
        far_end.close()
        child = _Child(process, line)
        self._children.append(child)
        self._hand_out(child)

    def _hand_out(self, child: _Child) -> None:
        """The next subject, or the end, to a process that has none."""
        child.subject = self._waiting.popleft() if self._waiting else None
        try:
            child.line.send(child.subject)
        except OSError:  # it died; which is noticed when its line is read
            return
        if child.subject is not None:
            self.watcher.stage(child.subject, "starting", 0.0)

    def _listen(self) -> None:
        by_line = {child.line: child for child in self._children}
        for line in wait(list(by_line)):
            child = by_line[line]  # type: ignore[index]
            try:
                told = child.line.recv()
            except (EOFError, OSError):
                self._gone(child)
                continue
            self._heed(child, told)

    def _heed(self, child: _Child, told: Any) -> None:
        subject = child.subject
        if subject is None:
            return
        if isinstance(told, Ended):
            self.watcher.ended(subject, told)
            self._hand_out(child)
        else:
            self.watcher.stage(subject, *told)

    def _gone(self, child: _Child) -> None:
        """A process has ended: well, or in the middle of a subject."""
        self._children.remove(child)
        child.process.join()
        child.line.close()
        subject = child.subject
        if subject is None:
            return
        self._tries[subject.id] = self._tries.get(subject.id, 0) + 1
        if self._tries[subject.id] < MOST_TRIES:
            self._waiting.append(subject)  # after the others, when there may be more memory
        else:
            problem = WorkerLostError(
                "The process that registered this subject died twice, perhaps for want of memory. "
                "Try --jobs 1."
            ).problem()
            put_problem(problem, self.terms.root / subject.id)
            self.watcher.ended(subject, Ended(0.0, problem))
        if self._waiting:
            self._start()


def _serve(line: Connection, terms: Terms, threads: int) -> None:
    """What a process does: register what it is handed until it is handed nothing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, which tells the parent too
    os.environ["NUMBA_NUM_THREADS"] = str(threads)
    os.environ["WARPLINE_THREADS"] = str(threads)
    with registering(terms) as register, suppress(EOFError, BrokenPipeError):  # orphaned
        while (subject := line.recv()) is not None:
            line.send(register(subject, _Steps(line)))


@dataclass
class _Steps:
    """Tells the parent what is worth telling."""

    line: Connection
    last: tuple[str, float] = ("", 0.0)

    def __call__(self, stage: str, fraction: float) -> None:
        if stage != self.last[0] or fraction - self.last[1] >= LEAST_STEP:
            self.last = stage, fraction
            self.line.send(self.last)
