"""The parent's side of the child that parses DICOM: ask, wait, and believe little.

The child is stopped when it takes longer than allowance.py gives it, when `tick` raises, and when
this process ends.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from service.errors import DicomParsingLimitError, WarplineError
from service.errors.tree import errors_by_slug
from service.registration.files.dicom.allowance import Allowance
from service.registration.files.limits import Limits

MIB = 1 << 20
# The largest volume is decoded, rescaled and resampled in turn; each needs room for it.
COPIES = 4
TIME_S = 120  # of any child; allowance.py stops most that are stuck far sooner
TICK_S = 0.1
LONGEST_LINE = 65 << 20  # child.py writes less
CHILD = "service.registration.files.dicom.child"

Tick = Callable[[], None]


def untold() -> None:
    """Nobody wants to stop it."""


def asked(
    what: str, files: Sequence[Path], limits: Limits, tick: Tick = untold, **more: Any
) -> dict[str, Any]:
    """The child's answer.

    Args:
        what: See child.py.
        files: In the order of their names.
        limits: What it refuses, and what its memory is reckoned from.
        tick: Called ten times a second; may raise to stop it.
        more: Further parts of the request.

    Raises:
        WarplineError: As the child says, or because it was stopped.
    """
    request = {
        "what": what,
        "parent": os.getpid(),
        "files": [str(file) for file in files],
        "limits": asdict(limits),
        "memory_mib": COPIES * limits.max_bytes // MIB,
        "file_mib": limits.max_bytes // MIB + 1,
        "time_s": TIME_S,
        **more,
    }
    try:
        answer: dict[str, Any] = json.loads(_said(json.dumps(request).encode(), tick))
    except ValueError:  # it was killed, by a limit or by a fault in a decoder
        raise DicomParsingLimitError from None
    if problem := answer.get("problem"):
        raise error_of(problem)
    return answer


def _said(request: bytes, tick: Tick) -> bytes:
    # The caller's packages, not the folder it stands in: -P.
    command = [sys.executable, "-P", "-m", CHILD]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        allowance = Allowance(child.pid, TIME_S)
        talk = _Talk(child, request, allowance)
        talk.start()
        try:
            while True:
                talk.join(TICK_S)
                if not talk.is_alive():
                    return talk.answer
                tick()
                if allowance.is_used_up():
                    raise DicomParsingLimitError
        finally:
            child.kill()
            talk.join()


class _Talk(threading.Thread):
    """Sends the request, and hears lines: the answer is one of JSON, the others earn time."""

    def __init__(self, child: Any, request: bytes, allowance: Allowance) -> None:
        super().__init__(daemon=True)
        self._to, self._from = child.stdin, child.stdout
        self._request, self._allowance = request, allowance
        self.answer = b""  # stays so where the child dies

    def run(self) -> None:
        """Until the child has said all."""
        with contextlib.suppress(OSError), self._to:  # it may have died
            self._to.write(self._request)
        while line := self._from.readline(LONGEST_LINE):
            if line.startswith(b"{"):
                self.answer = line
            else:
                self._allowance.hear(line)


def error_of(problem: dict[str, Any]) -> WarplineError:
    """The error that a problem was made of."""
    kind = errors_by_slug()[problem["code"]]
    return kind(
        problem["detail"], field=problem.get("field"), errors=tuple(problem.get("errors", ()))
    )
