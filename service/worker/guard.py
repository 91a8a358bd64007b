"""Stands between a worker and its trainer, in the trainer's process group, and lets nothing linger.

Started as `python -m service.worker.guard COMMAND...` with a pipe from the worker as its standard
input. When the worker dies, however it dies, the pipe closes and the whole group is killed.
"""

import os
import resource
import select
import signal
import subprocess
import sys

LOOK_EVERY_S = 0.2


def main(command: list[str]) -> int:
    """Run the command; its exit code, or 128 and the number of the signal that ended it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would hold what images hold
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave_it_to_the_trainer)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    while child.poll() is None:
        if _worker_is_gone():
            os.killpg(0, signal.SIGKILL)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _worker_is_gone() -> bool:
    """Wait a moment; nothing is ever written to the pipe, so what can be read is its end."""
    ready, _, _ = select.select([sys.stdin.fileno()], [], [], LOOK_EVERY_S)
    return bool(ready)


def _leave_it_to_the_trainer(_number: int, _frame: object) -> None:
    """Signals go to the group; the trainer saves its state, and the guard waits for it."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
