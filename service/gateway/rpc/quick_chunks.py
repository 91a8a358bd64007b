"""Chunks read off the wire without copying their bytes.

protobuf's Python copies a message's bytes when it parses and again when they are asked for; of a
gigabyte a second that is a seventh of what the gateway does. A chunk as every client writes it is
read here; whatever looks otherwise goes to protobuf itself, so nothing is refused or read in
another way (https://protobuf.dev/programming-guides/encoding/).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from service.pb import warpline_pb2 as pb

# Field number << 3 | wire type, in FileChunk.
OFFSET, DATA, CRC32 = 0x08, 0x12, 0x1D
LONGEST_VARINT = 10


@dataclass(frozen=True, slots=True)
class QuickChunk:
    """Stands for an UploadRequest or RegisterRequest with a chunk, and for the FileChunk in it."""

    offset: int
    data: memoryview
    crc32: int

    @property
    def chunk(self) -> "QuickChunk":
        return self

    def WhichOneof(self, _name: str) -> str:  # as protobuf calls it
        return "chunk"


def chunk_parser(kind: Any) -> Callable[[bytes], Any]:
    """A parser of requests of this kind, quick where the request is a chunk."""
    tag = kind.DESCRIPTOR.fields_by_name["chunk"].number << 3 | 2

    def parse(data: bytes) -> Any:
        quick = None
        if data and data[0] == tag:
            try:
                quick = _chunk(data)
            except (IndexError, ValueError):
                quick = None
        return kind.FromString(data) if quick is None else quick

    return parse


def _chunk(data: bytes) -> QuickChunk | None:
    """The chunk, if its fields are those we know, in order, each at most once."""
    size, at = _varint(data, 1)
    if at + size != len(data):
        return None
    offset = 0
    if data[at] == OFFSET:
        offset, at = _varint(data, at + 1)
    if data[at] != DATA:
        return None
    length, at = _varint(data, at + 1)
    end = at + length
    left = len(data) - end
    if left not in (0, 5) or (left and data[end] != CRC32):
        return None
    crc32 = int.from_bytes(data[end + 1 :], "little")
    return QuickChunk(offset, memoryview(data)[at:end], crc32)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number, seven bits a byte with the lowest first, and where it ends."""
    value = 0
    for place in range(LONGEST_VARINT):
        byte = data[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            if value >> 64:
                raise ValueError
            return value, at + place + 1
    raise ValueError


def quick_handlers(servicer: Any) -> dict[str, "grpc.RpcMethodHandler[Any, Any]"]:
    """Handlers of the methods whose requests are mostly chunks, by the method's name."""
    return {
        "Upload": grpc.stream_stream_rpc_method_handler(
            servicer.Upload,
            request_deserializer=chunk_parser(pb.UploadRequest),
            response_serializer=pb.UploadResponse.SerializeToString,
        ),
        "Register": grpc.stream_stream_rpc_method_handler(
            servicer.Register,
            request_deserializer=chunk_parser(pb.RegisterRequest),
            response_serializer=pb.RegisterResponse.SerializeToString,
        ),
    }
