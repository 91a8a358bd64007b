"""Write gzip on several threads, with the same bytes whatever their number.

The data is cut into blocks of fixed size that are deflated apart and joined at byte boundaries
into one member, as pigz does. The header holds no time and no name.

Source: RFC 1952; RFC 1951, 3.2.4 (stored blocks; an empty one aligns to a byte).
"""

import struct
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, Self

from isal import isal_zlib

from service.registration.files.deflate import deflated

HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # deflate, no flags, no time, unknown system
LAST_BLOCK = b"\x03\0"  # an empty final block
BLOCK_BYTES = 1 << 20
STORED_BYTES, STORED = 0xFFFF, struct.Struct("<HH")  # at most so many; the length, and its inverse
THREADS = 2


class Sink(Protocol):
    """What bytes can be written to."""

    def write(self, data: bytes, /) -> object:
        """Append some more."""


class GzipWriter:
    """One gzip member, written part by part; leaving the block ends it."""

    def __init__(self, stream: Sink, level: int) -> None:
        """Start the member.

        Args:
            stream: Where it goes.
            level: 1 is ISA-L's, for images; 0 stores what hardly compresses as it is.
        """
        self._stream, self._level = stream, level
        self._crc = self._size = 0
        self._pool = ThreadPoolExecutor(THREADS)

    def __enter__(self) -> Self:
        self._stream.write(HEADER)
        return self

    def __exit__(self, fault: type[BaseException] | None, *_: object) -> None:
        self._pool.shutdown()
        if fault is None:
            trailer = self._crc.to_bytes(4, "little") + (self._size % 2**32).to_bytes(4, "little")
            self._stream.write(LAST_BLOCK + trailer)

    def write(self, data: memoryview | bytes) -> None:
        """Compress some more."""
        part = memoryview(data)
        blocks = [part[at : at + BLOCK_BYTES] for at in range(0, len(part), BLOCK_BYTES)]
        # What is stored costs less than handing it to another thread.
        made = self._pool.map(self._deflated, blocks) if self._level else map(_stored, blocks)
        for block, (packed, crc) in zip(blocks, made, strict=True):
            self._stream.write(packed)
            self._crc = isal_zlib.crc32_combine(self._crc, crc, len(block))
            self._size += len(block)

    def _deflated(self, block: memoryview) -> tuple[bytes, int]:
        return deflated(block, self._level, -15, isal_zlib.Z_FULL_FLUSH), isal_zlib.crc32(block)


def _stored(block: memoryview) -> tuple[bytes, int]:
    """Deflate's stored blocks, and the checksum.

    As zlib's level 0 makes them, which copies everything thrice; ISA-L's makes vectors a quarter
    larger.
    """
    pieces: list[bytes | memoryview] = []
    for at in range(0, len(block), STORED_BYTES):
        piece = block[at : at + STORED_BYTES]
        pieces += [b"\0", STORED.pack(len(piece), len(piece) ^ 0xFFFF), piece]
    return b"".join(pieces), isal_zlib.crc32(block)
