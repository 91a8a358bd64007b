"""The child's side of the limits: what it may take, and that it ends with its parent.

Where the system has no such limits, as on Windows, or refuses one, as macOS does for address
space, the parent's own clock remains.
"""

import ctypes
import os
import signal
import sys
from typing import Any

resource: Any
try:
    import resource
except ImportError:  # not on Windows
    resource = None

MIB = 1 << 20
# What Python, numpy and the decoders take before the first file; address space, not memory.
ROOM_MIB = 1280
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def limit(memory_mib: int, time_s: int, file_mib: int) -> None:
    """Limit address space, processor time and the size of files that are written; no core dump."""
    if resource is None:
        return
    room = (ROOM_MIB + memory_mib) * MIB
    _set(resource.RLIMIT_AS, room, room)
    _set(resource.RLIMIT_CPU, time_s, time_s + 1)
    _set(resource.RLIMIT_FSIZE, file_mib * MIB, file_mib * MIB)
    _set(resource.RLIMIT_CORE, 0, 0)


def _set(what: int, soft: int, hard: int) -> None:
    most = resource.getrlimit(what)[1]
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    try:
        resource.setrlimit(what, (soft, hard))
    except (OSError, ValueError):  # macOS does not limit address space
        return


def end_with_parent(parent: int) -> None:
    """Be killed when the parent is, whatever this process does then.

    Source: prctl(2), PR_SET_PDEATHSIG; the parent may have gone before it was asked for.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def own_output() -> Any:
    """The way to the parent, for this process alone: what decoders print goes nowhere."""
    answer = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    return answer
