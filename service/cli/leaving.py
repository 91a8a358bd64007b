"""Ending the process at once, when it holds nothing but memory.

Python clears up object by object, and waits for threads that only wait: a twentieth of a short run.
"""

import os
import sys

_may_leave: list[bool] = []


def allow() -> None:
    """Say that nothing is open any more that only Python's own end would close."""
    _may_leave.append(True)


def leave(code: object) -> None:
    """End with an exit code, if that was allowed; else return."""
    if _may_leave:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))
