"""A registration over one gRPC stream, with nothing of ours but the messages."""

import hashlib
import zlib
from pathlib import Path

import grpc

from service.client import Client
from service.pb import warpline_pb2 as pb
from service.pb.warpline_pb2_grpc import WarplineServiceStub
from tests.e2e.conftest import Up
from tests.e2e.test_three_ways import SAME, sums
from tests.upload_sender import Stream

PAIR_ROLES = ("fixed", "moving", "fixed_labels", "moving_labels")


def test_the_stream_gives_the_files_that_rest_gives(
    up: Up, pair: dict[str, Path], tmp_path: Path
) -> None:
    with Client(up.url) as client:
        job = client.register(**pair, wait=True)  # type: ignore[arg-type]
        client.download(job.id, tmp_path)
    with grpc.insecure_channel(up.grpc) as channel:
        stream = Stream(WarplineServiceStub(channel).Register, pb.RegisterRequest, timeout=300)
        stream.send(start=pb.RegisterStart(delivery=pb.DELIVERY_INLINE))
        for role in PAIR_ROLES:
            data = pair[role].read_bytes()
            digest = hashlib.sha256(data).digest()
            stream.send(file=pb.FileStart(role=role, size_bytes=len(data), sha256=digest))
            stream.send_file(data)
        parts = stream.send(submit=pb.Submit()).end().rest()
    got: dict[str, bytes] = {}
    for part in (part for part in parts if isinstance(part, pb.ResultChunk)):
        assert (part.offset, part.crc32) == (len(got.get(part.name, b"")), zlib.crc32(part.data))
        got[part.name] = got.get(part.name, b"") + part.data
    [result] = [part for part in parts if isinstance(part, pb.RegisterResult)]
    for file in result.files:
        assert (len(got[file.name]), hashlib.sha256(got[file.name]).digest()) == (
            file.size_bytes,
            file.sha256,
        )
    assert {name: hashlib.sha256(got[name]).hexdigest() for name in SAME} == sums(tmp_path)
    stages = [part.job.stage for part in parts if isinstance(part, pb.JobEvent)]
    assert (stages[0], stages[-1]) == ("queued", "succeeded")
