"""Deflate by ISA-L, with the same bytes each time.

Source: RFC 1951; ISA-L, igzip_icf_body_h1_gr_bt.asm (`.write_first_byte`).
"""

from isal import isal_zlib

# The main loop of levels 1 and 2 on AMD64 hashes a stream's third byte from what a register held
# before, the stream's address, so that once in a while a match far behind takes another distance:
# equal data, other bytes. Its finishing loop does it right. That one takes over where up to 16
# bytes are left, and begins a history from 4 on.
FIRST_BYTES = 8


def deflated(data: memoryview | bytes, level: int, wbits: int, end: int) -> bytes:
    """Data that was deflated in one go.

    Args:
        data: Bytes in one row.
        level: Of ISA-L, 0 to 3.
        wbits: As zlib has it: -15 for deflate alone, 15 for zlib's header and sum around it.
        end: What the last flush is, as `isal_zlib.Z_FINISH`.
    """
    deflate = isal_zlib.compressobj(level, wbits=wbits)
    parts = (
        deflate.compress(data[:FIRST_BYTES]),
        deflate.flush(isal_zlib.Z_SYNC_FLUSH),
        deflate.compress(data[FIRST_BYTES:]),
        deflate.flush(end),
    )
    return b"".join(parts)
