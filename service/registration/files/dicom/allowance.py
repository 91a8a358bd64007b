"""How long the child may take: little for what is stuck, more for what is large.

A file that is not DICOM, or no sound one, is answered within two seconds: the child gets `FIRST_S`
from when it has loaded its parser (a quarter of a second), and what it earns, see earning.py. Time
in which it waited for a core is given back, and so is time in which nobody looked, or after it has
ended: a busy machine refuses nothing that an idle one would read.
"""

import contextlib
import time
from pathlib import Path

from service.registration.files.dicom.earning import BEGUN, MAKES, READ

FIRST_S = 1.5
FILE_S = 0.005  # its header, read by a tenth of this
READ_S_A_BYTE = 1 / (1 << 20)  # decoders make 20 MiB of voxels a second, out of a third of that
MAKES_S_A_BYTE = 1 / (32 << 20)
MOST_S_A_LOOK = 0.5  # a parent that looks more seldom was held up itself
WAITING, ENDED = "R", "Z"  # states of a process, proc(5)


class Allowance:
    """The time of one child, which it may earn more of.

    Args:
        pid: The child.
        most_s: Of its whole life, whatever it earns.
    """

    def __init__(self, pid: int, most_s: float) -> None:
        self._scheduled = Path(f"/proc/{pid}/schedstat")
        self._stat = Path(f"/proc/{pid}/stat")
        self._end = time.monotonic() + most_s
        self._looked_at: float | None = None  # from when it has begun
        self._seen = ""
        self._waited_before = self._waits_s = self._used_s = 0.0
        self._earned_s = FIRST_S

    def hear(self, line: bytes) -> None:
        """Take what the child tells; what is no such line says nothing."""
        with contextlib.suppress(ValueError):
            what, size = line.decode("ascii").split()
            if what == BEGUN and self._looked_at is None:
                self._looked_at = time.monotonic()
                self._waited_before = self._waited(self._schedule())
            elif what == READ:
                self._earned_s += FILE_S + int(size) * READ_S_A_BYTE
            elif what == MAKES:
                self._earned_s += int(size) * MAKES_S_A_BYTE

    def is_used_up(self) -> bool:
        """Whether the child is to be stopped; asked again and again while it runs."""
        now = time.monotonic()
        if now > self._end:
            return True
        if self._looked_at is None:
            return False
        passed_s, self._looked_at = min(now - self._looked_at, MOST_S_A_LOOK), now
        state, seen, before = self._state(), self._schedule(), self._seen
        self._seen = seen
        if state != ENDED:
            self._used_s += passed_s
        # The system counts a wait only when it is over. One that counts nothing tells of none.
        waits = state == WAITING and seen == before and seen.strip("0 \n") != ""
        self._waits_s = self._waits_s + passed_s if waits else 0.0
        waited_s = self._waited(seen) - self._waited_before + self._waits_s
        return self._used_s - waited_s > self._earned_s

    def _state(self) -> str:
        """What the child does, in the letters of proc(5); empty where the system does not say."""
        try:
            return self._stat.read_text(errors="replace").rpartition(")")[2].split()[0]
        except (OSError, IndexError):
            return ""

    def _schedule(self) -> str:
        """How long it ran and waited; empty where the system does not say.

        Source: Linux, Documentation/scheduler/sched-stats.rst, /proc/PID/schedstat.
        """
        try:
            return self._scheduled.read_text()
        except OSError:
            return ""

    @staticmethod
    def _waited(schedule: str) -> float:
        """Seconds in which it could run and had no core; 0 where the system does not say."""
        try:
            return int(schedule.split()[1]) / 1e9
        except (ValueError, IndexError):
            return 0.0
