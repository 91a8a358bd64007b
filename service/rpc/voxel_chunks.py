"""Messages of live sessions with voxels in them, written without a message object around them."""

from typing import Any

from service.pb import warpline_pb2 as pb

LENGTH_DELIMITED = 2


def _tag(kind: Any, name: str) -> bytes:
    return bytes([kind.DESCRIPTOR.fields_by_name[name].number << 3 | LENGTH_DELIMITED])


DATA_TAG = _tag(pb.VoxelChunk, "data")
REQUEST_TAG, RESPONSE_TAG = _tag(pb.LiveRequest, "chunk"), _tag(pb.LiveResponse, "chunk")


def chunk_request(chunk: pb.VoxelChunk, data: memoryview) -> bytes:
    """A LiveRequest with a chunk that has these data; see `chunk_response`."""
    return _written(REQUEST_TAG, chunk, data)


def chunk_response(chunk: pb.VoxelChunk, data: memoryview) -> bytes:
    """A LiveResponse with a chunk that has these data, copied once instead of three times.

    Source: Protocol Buffers, Encoding: fields may come in any order, so the data come last.
    """
    return _written(RESPONSE_TAG, chunk, data)


def _written(tag: bytes, chunk: pb.VoxelChunk, data: memoryview) -> bytes:
    head = chunk.SerializeToString()
    start = DATA_TAG + _varint(len(data))
    size = _varint(len(head) + len(start) + len(data))
    return b"".join((tag, size, head, start, data))


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the highest bit says that more follow."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def serialized(message: "pb.LiveRequest | pb.LiveResponse | bytes") -> bytes:
    """The bytes of a message, or of one that is written already."""
    return message if isinstance(message, bytes) else message.SerializeToString()
