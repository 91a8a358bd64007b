"""Memory of a training on the CPU."""

from service.malloc import M_MMAP_MAX, M_TOP_PAD, M_TRIM_THRESHOLD, set_malloc

TOP_PAD_BYTES = 64 << 20
NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, to be used again; whether the C library can.

    Every step frees and wants the same few hundred MiB. By default glibc hands each large block
    back to the kernel, which must then clear it page by page: a fifth of a step's time.
    """
    return set_malloc({M_MMAP_MAX: 0, M_TRIM_THRESHOLD: NEVER, M_TOP_PAD: TOP_PAD_BYTES})
