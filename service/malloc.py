"""What glibc does with memory that is freed; other C libraries are left as they are."""

import ctypes
import mmap
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


def grow_heap(size: int) -> bool:
    """Grow the heap by so many bytes of huge pages, none of which is there until it is written to.

    They stay with the process only if its threshold for trimming is no less. False where the C
    library or the kernel has none of it.

    Source: malloc(3), sbrk(2), madvise(2).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(mmap, "MADV_HUGEPAGE") or not hasattr(libc, "madvise"):
        return False
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    block = libc.malloc(size)
    if block is None:
        return False
    first = -(-block // mmap.PAGESIZE) * mmap.PAGESIZE
    stop = (block + size) // mmap.PAGESIZE * mmap.PAGESIZE
    advised: bool = libc.madvise(first, stop - first, mmap.MADV_HUGEPAGE) == 0
    libc.free(block)
    return advised
