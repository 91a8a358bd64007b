"""Whether a chunk is what it says and comes where it belongs; and chunks of what goes out."""

from collections.abc import Iterator

from isal import isal_zlib

from service.errors import ChecksumMismatchError, ChunkOrderError, ChunkSizeError
from service.gateway.limits import MIB
from service.gateway.rpc.quick_chunks import QuickChunk
from service.pb import warpline_pb2 as pb

MOST_CHUNK_BYTES = MIB

Chunk = pb.FileChunk | QuickChunk


def crc32_of(data: bytes | memoryview) -> int:
    """CRC-32 as in zlib."""
    return int(isal_zlib.crc32(data))


def checked(chunk: Chunk, expected: int, size: int) -> bytes | memoryview:
    """The chunk's bytes.

    Args:
        chunk: As it came.
        expected: Where it has to begin.
        size: Bytes of the whole file.

    Raises:
        ChunkSizeError: If it is empty or has more than 1 MiB.
        ChunkOrderError: If it begins elsewhere, or goes on after the file's end.
        ChecksumMismatchError: If its bytes are not those that were sent.
    """
    data = chunk.data
    if not 0 < len(data) <= MOST_CHUNK_BYTES:
        raise ChunkSizeError(
            f"A chunk has 1 to {MOST_CHUNK_BYTES} bytes, this one {len(data)}.", field="chunk.data"
        )
    if chunk.offset != expected:
        raise ChunkOrderError(
            f"The next chunk begins at byte {expected}, this one at {chunk.offset}; chunks come "
            "in order, without gaps and without overlaps.",
            field="chunk.offset",
        )
    if expected + len(data) > size:
        raise ChunkOrderError(
            f"The file was announced with {size} bytes; this chunk goes on after them.",
            field="chunk.data",
        )
    if crc32_of(data) != chunk.crc32:
        raise ChecksumMismatchError(
            f"The chunk at byte {expected} was damaged on its way; go on from the last byte that "
            "was acknowledged.",
            field="chunk.crc32",
        )
    return data


def outgoing(name: str, offset: int, data: bytes) -> Iterator[pb.ResultChunk]:
    """A result's bytes as chunks, none larger than 1 MiB."""
    for start in range(0, len(data), MOST_CHUNK_BYTES):
        piece = data if len(data) <= MOST_CHUNK_BYTES else data[start : start + MOST_CHUNK_BYTES]
        yield pb.ResultChunk(name=name, offset=offset + start, data=piece, crc32=crc32_of(piece))
