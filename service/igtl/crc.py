"""The checksum of OpenIGTLink: CRC-64 of ECMA-182, most significant bit first, no inversion."""

from contextlib import suppress
from typing import Any

import numba
import numpy as np

POLYNOMIAL = 0x42F0E1EBA9EA3693
SLICES = 16  # bytes a step: sixteen tables of 2 KiB fit the first-level cache

_MASK = (1 << 64) - 1


def _first_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte << 56
        for _ in range(8):
            value = ((value << 1) ^ (POLYNOMIAL if value >> 63 else 0)) & _MASK
        table.append(value)
    return table


def _tables() -> np.ndarray:
    """tables[n][b]: the checksum of the byte b with n zero bytes behind it."""
    rows = [_first_table()]
    for _ in range(SLICES - 1):
        rows.append([((v << 8) & _MASK) ^ rows[0][v >> 56] for v in rows[-1]])
    return np.array(rows, np.uint64)


TABLES = _tables()


@numba.njit(nogil=True)
def _advance(data: Any, tables: Any, crc: Any) -> Any:
    steps, low = data.size // 16, np.uint64(255)
    for step in range(steps):
        at = step * 16
        first = np.uint64(0)
        for n in range(8):
            first = (first << np.uint64(8)) | np.uint64(data[at + n])
        first ^= crc
        crc = np.uint64(0)
        for n in range(8):
            crc ^= tables[15 - n, (first >> np.uint64(56 - 8 * n)) & low]
            crc ^= tables[7 - n, data[at + 8 + n]]
    for at in range(steps * 16, data.size):
        crc = (crc << np.uint64(8)) ^ tables[0, (crc >> np.uint64(56)) ^ np.uint64(data[at])]
    return crc


with suppress(RuntimeError):  # neither the package nor the user's cache folder can be written
    _advance.enable_caching()


def crc64(data: bytes | bytearray | memoryview) -> int:
    """The CRC-64 of some bytes; 0 of none.

    Source: ECMA-182, annex B, as OpenIGTLink's igtl_util.c has it: `123456789` gives
    6C40DF5F0B497347.
    """
    return int(_advance(np.frombuffer(data, np.uint8), TABLES, np.uint64(0)))
