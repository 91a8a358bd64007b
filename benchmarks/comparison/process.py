"""A system's process from outside: asked, waited for, and stopped when it takes too long."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.comparison.registry import System

ROOT = Path(__file__).parents[2]
THREADS = "2"
THREAD_SETTINGS = (
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
    "OMP_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "MKL_NUM_THREADS",
    "WARPLINE_THREADS",
)


class SystemFailedError(Exception):
    """The system said that it cannot, or ended."""


class TooSlowError(SystemFailedError):
    """The system had no answer in time."""


class Process:
    """One system, ready for pairs.

    Raises:
        SystemFailedError: If its library is not there, or does not start.
    """

    def __init__(self, system: System, python: str, log: Path, limit_s: float) -> None:
        self._limit_s = limit_s
        self._log = log.open("ab")
        interpreter = sys.executable if system.of_ours else python
        command = ["-m", "benchmarks.comparison.child", system.builds, system.package or ""]
        command += system.arguments
        try:
            self._child = self._started([interpreter, *command])
        except FileNotFoundError:
            self._log.close()
            raise SystemFailedError(f"There is no Python at {interpreter}.") from None
        self._unread = b""
        try:
            self.version: str | None = self._answer()["version"]
        except BaseException:
            self.close()
            raise

    def _started(self, command: list[str]) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | dict.fromkeys(THREAD_SETTINGS, THREADS),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
        )

    def register(self, request: dict[str, Any]) -> dict[str, Any]:
        """Ask for one pair.

        Raises:
            TooSlowError: If the limit passed; the process is of no use any more.
            SystemFailedError: If the system could not, or ended.
        """
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(json.dumps(request).encode() + b"\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            raise SystemFailedError("The process has ended.") from None
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._line())
        if "error" in answer:
            raise SystemFailedError(answer["error"])
        return answer

    def _line(self) -> bytes:
        assert self._child.stdout is not None
        until = time.monotonic() + self._limit_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stdout, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                if not selector.select(max(0.0, until - time.monotonic())):
                    raise TooSlowError(f"No answer in {self._limit_s:g} s.")
                more = os.read(self._child.stdout.fileno(), 1 << 16)
                if not more:
                    raise SystemFailedError(f"Ended with code {self._child.wait()}.")
                self._unread += more
        line, self._unread = self._unread.split(b"\n", 1)
        return line

    def close(self) -> None:
        """End the process and what it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self._log.close()

    def __enter__(self) -> "Process":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
