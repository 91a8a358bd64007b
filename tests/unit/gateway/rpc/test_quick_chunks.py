"""Chunks read quickly are what protobuf reads, and so is everything else."""

from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from service.gateway.rpc.quick_chunks import QuickChunk, chunk_parser
from service.pb import warpline_pb2 as pb

KINDS = (pb.UploadRequest, pb.RegisterRequest)
CHUNKS = st.builds(
    pb.FileChunk,
    offset=st.integers(0, 2**64 - 1),
    data=st.binary(max_size=300),
    crc32=st.integers(0, 2**32 - 1),
)


def same(kind: Any, data: bytes) -> None:
    """Both readers refuse the bytes, or both find the same."""
    try:
        theirs = kind.FromString(data)
    except DecodeError:
        with pytest.raises(DecodeError):
            chunk_parser(kind)(data)
        return
    ours = chunk_parser(kind)(data)
    assert ours.WhichOneof("part") == theirs.WhichOneof("part")
    if isinstance(ours, QuickChunk):
        found = (ours.chunk.offset, bytes(ours.chunk.data), ours.chunk.crc32)
        assert found == (theirs.chunk.offset, theirs.chunk.data, theirs.chunk.crc32)
    else:
        assert ours == theirs


@pytest.mark.parametrize("kind", KINDS)
def test_a_chunk_is_read_without_protobuf(kind: Any) -> None:
    chunk = pb.FileChunk(offset=5, data=b"abc", crc32=7)
    assert isinstance(chunk_parser(kind)(kind(chunk=chunk).SerializeToString()), QuickChunk)
    assert isinstance(chunk_parser(kind)(kind(chunk=pb.FileChunk()).SerializeToString()), kind)


@pytest.mark.parametrize("kind", KINDS)
@given(chunk=CHUNKS)
def test_every_chunk_is_what_protobuf_reads(kind: Any, chunk: pb.FileChunk) -> None:
    same(kind, kind(chunk=chunk).SerializeToString())


@pytest.mark.parametrize("kind", KINDS)
@given(chunk=CHUNKS, at=st.integers(0, 400), byte=st.integers(0, 255), cut=st.integers(0, 400))
def test_a_damaged_chunk_is_what_protobuf_reads(
    kind: Any, chunk: pb.FileChunk, at: int, byte: int, cut: int
) -> None:
    data = bytearray(kind(chunk=chunk).SerializeToString())
    same(kind, bytes(data[: len(data) - cut % 4]))
    if data:
        data[at % min(len(data), 24)] = byte
    same(kind, bytes(data))
    same(kind, bytes(data + data[:cut]))


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.binary(max_size=40))
def test_any_bytes_are_what_protobuf_reads(kind: Any, data: bytes) -> None:
    same(kind, data)
    tag = kind.DESCRIPTOR.fields_by_name["chunk"].number << 3 | 2
    same(kind, bytes([tag]) + data)
    same(kind, bytes([tag, len(data)]) + data)
