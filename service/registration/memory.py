"""Memory of registrations: what one step frees, the next one uses."""

import ctypes
import sys
from functools import cache

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
# As much free memory stays with a process that waits for its next pair.
KEPT_BYTES = 512 << 20


@cache
def keep_freed_memory() -> bool:
    """Let this process keep some of what it frees, to be used again; whether the C library can.

    A registration of 6 million voxels allocates 1.5 GB in turn. By default glibc maps each large
    block afresh and hands it back when it is freed, and the kernel clears every page of it anew: a
    tenth of the processor's time.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all(mallopt(*wish) == 1 for wish in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, KEPT_BYTES)))
