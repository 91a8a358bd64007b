"""Memory of registrations: what one step frees, the next one uses."""

from functools import cache

from service.malloc import M_ARENA_MAX, M_MMAP_MAX, M_TRIM_THRESHOLD, grow_heap, set_malloc

# As much free memory stays with a process that waits for its next pair.
KEPT_BYTES = 512 << 20


@cache
def keep_freed_memory() -> bool:
    """Let this process keep some of what it frees, to be used again; whether the C library can.

    A registration of 6 million voxels allocates 1.5 GB in turn. By default glibc maps each large
    block afresh and hands it back when it is freed, and the kernel clears every page of it anew: a
    tenth of the processor's time.

    What it will keep is asked for in huge pages, as numpy does for large arrays: the processor
    looks up fewer addresses then (1.5 % of a registration).

    All threads share what is kept: with heaps of their own, each keeps what another needs, and a
    process grows by a half over its first dozen pairs. A thread that has a heap keeps it, so this
    is called before others begin.
    """
    settings = {M_ARENA_MAX: 1, M_MMAP_MAX: 0, M_TRIM_THRESHOLD: KEPT_BYTES}
    is_kept = set_malloc(settings)
    if is_kept:
        grow_heap(KEPT_BYTES // 2)
    return is_kept
