"""Memory of a training on the CPU."""

import ctypes
import sys

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_TOP_PAD_BYTES = 64 << 20


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, to be used again; whether the C library can.

    Every step frees and wants the same few hundred MiB. By default glibc hands each large block
    back to the kernel, which must then clear it page by page: a fifth of a step's time.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    never = 2**31 - 1
    wishes = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, never), (_TOP_PAD, _TOP_PAD_BYTES))
    return all(mallopt(name, value) == 1 for name, value in wishes)
