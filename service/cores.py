"""How many cores a process may use."""

import os


def usable_cores() -> int:
    """Cores that this process is allowed to run on; all of them where the system cannot tell."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
