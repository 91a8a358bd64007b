"""What glibc does with memory that is freed; other C libraries are left as they are."""

import ctypes
import sys

# <malloc.h>
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -2, -3, -4
M_ARENA_MAX = -8


def set_malloc(settings: dict[int, int]) -> bool:
    """Set parameters of this process's allocator, by number; False where one was not taken.

    Source: mallopt(3).
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    taken = [mallopt(number, value) == 1 for number, value in settings.items()]
    return all(taken)
