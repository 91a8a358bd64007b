"""Memory for large messages: kept for the next one instead of given back after each.

glibc maps every allocation of more than 128 KiB afresh and returns it to the system when it is
freed. A stream of mebibyte messages then spends more time on page faults than on anything else:
0.6 GB/s instead of 2 GB/s on two cores (`benchmarks/uploads.py`).
"""

from service.malloc import M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, set_malloc

# A message, its bytes and its parts fit; volumes are still mapped, and so returned when freed.
MAPPED_FROM_BYTES = 4 * 2**20
# As much free memory stays with the process.
KEPT_BYTES = 32 * 2**20


def keep_message_buffers() -> bool:
    """Set this process up for large messages; False where the C library is another one."""
    return set_malloc({M_MMAP_THRESHOLD: MAPPED_FROM_BYTES, M_TRIM_THRESHOLD: KEPT_BYTES})
