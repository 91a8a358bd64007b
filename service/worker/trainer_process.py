"""A trainer as a child process: its events, its memory, and its end."""

import contextlib
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

log = logging.getLogger(__name__)

GUARD = "service.worker.guard"
LONGEST_LINE = 1 << 16
MOST_WAITING_EVENTS = 10_000
LAST_LINES = 40
KILLED_WITHIN_S = 3.0

Event = dict[str, Any]


class TrainerProcess:
    """Runs a command in a process group of its own, behind a guard."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path):
        """Start it.

        Args:
            command: Writes events as lines of JSON to its standard output.
            environment: All that it sees; no secret of the worker's.
            folder: Its working directory.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-m", GUARD, *command],
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._events: queue.Queue[Event] = queue.Queue(MOST_WAITING_EVENTS)
        self._errors: deque[bytes] = deque(maxlen=LAST_LINES)
        self._readers = [
            threading.Thread(target=self._read_events, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def events(self, wait_s: float) -> Iterator[Event]:
        """What it has told meanwhile; waits for the first."""
        with contextlib.suppress(queue.Empty):
            yield self._events.get(timeout=wait_s)
            while True:
                yield self._events.get_nowait()

    @property
    def exit_code(self) -> int | None:
        """None while it runs or has told something that was not heard yet."""
        if self._process.returncode is None and _has_ended(self._process.pid):
            # While its leader is not waited for, the group's number is nobody else's. What the
            # trainer left running would keep its output open.
            self._signal(signal.SIGKILL)
        code = self._process.poll()
        if code is None or any(reader.is_alive() for reader in self._readers):
            return None
        return code if self._events.empty() else None

    def memory_bytes(self) -> int:
        """Memory of the whole group; pages that its processes share count once."""
        return sum(_memory_of(pid) for pid in _group(self._process.pid))

    def ask_to_stop(self) -> None:
        """SIGTERM: it writes a checkpoint and ends."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the whole group now."""
        self._signal(signal.SIGKILL)
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(KILLED_WITHIN_S)
        until = time.monotonic() + KILLED_WITHIN_S
        for reader in self._readers:
            reader.join(max(0.0, until - time.monotonic()))
        for line in self._errors:  # may hold names of files: only for who asked for it
            log.debug("trainer: %s", line.decode(errors="replace").rstrip())

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _read_events(self) -> None:
        for line in _lines(self._process.stdout):
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(event, dict):
                self._events.put(event)

    def _read_errors(self) -> None:
        for line in _lines(self._process.stderr):
            self._errors.append(line)


def _has_ended(pid: int) -> bool:
    """Whether a child has ended; it can still be waited for."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _lines(stream: IO[bytes] | None) -> Iterator[bytes]:
    """Lines of a bounded length, for as long as the stream lives."""
    if stream is None:
        return
    with stream:
        while line := stream.readline(LONGEST_LINE):
            yield line


def _group(leader: int) -> list[int]:
    """Processes of a group; Linux only, elsewhere none."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # PID (NAME) STATE PPID PGRP ...: the name may hold spaces and brackets.
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            if int(fields[2]) == leader:
                found.append(int(entry.name))
    return found


def _memory_of(pid: int) -> int:
    """Proportional set size in bytes; 0 for a process that has gone."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    return 0
