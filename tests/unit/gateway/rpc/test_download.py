"""Result files over gRPC: whole, from a byte on, and at the caller's pace."""

import threading
import zlib
from typing import Any
from uuid import uuid4

import pytest

from service.pb import warpline_pb2 as pb
from service.stores.local_blobs import LocalBlobStore
from tests.unit.gateway.rpc.conftest import WITHIN_S, Rpc, refusal

DATA = bytes(range(256)) * 10_000 + b"end"  # 2.4 MiB
NAME = "warped.nii.gz"


@pytest.fixture
def job(rpc: Rpc) -> str:
    rpc.api.job()
    return rpc.api.work({NAME: DATA, "empty.csv": b""})


def download(rpc: Rpc, job: str, name: str = NAME, **range_: int) -> Any:
    request = pb.DownloadResultRequest(job_id=job, name=name, **range_)
    return rpc.stub.DownloadResult(request, timeout=WITHIN_S)


@pytest.mark.parametrize(
    ("range_", "wanted"),
    [
        ({}, DATA),
        ({"offset": 1}, DATA[1:]),
        ({"offset": 2**20 - 1, "length": 2**20 + 2}, DATA[2**20 - 1 : 2**21 + 1]),
        ({"offset": len(DATA) - 1, "length": 2**40}, DATA[-1:]),
        ({"offset": len(DATA)}, b""),
        ({"length": 0}, b""),
    ],
)
def test_every_range_comes_in_checked_chunks(
    rpc: Rpc, job: str, range_: dict[str, int], wanted: bytes
) -> None:
    first, *chunks = list(download(rpc, job, **range_))
    assert (first.file.name, first.file.size_bytes) == (NAME, len(DATA))
    got, at = b"", range_.get("offset", 0)
    for chunk in (one.chunk for one in chunks):
        assert (chunk.name, chunk.offset) == (NAME, at + len(got))
        assert chunk.crc32 == zlib.crc32(chunk.data)
        assert 0 < len(chunk.data) <= 2**20
        got += chunk.data
    assert got == wanted


def test_an_empty_file_has_no_chunks(rpc: Rpc, job: str) -> None:
    assert [one.WhichOneof("part") for one in download(rpc, job, "empty.csv")] == ["file"]


def test_what_is_not_there_is_told(rpc: Rpc, job: str) -> None:
    told = refusal(lambda: download(rpc, job, offset=len(DATA) + 1))
    assert (told.reason, told.code) == ("range-not-satisfiable", "OUT_OF_RANGE")
    assert refusal(lambda: download(rpc, job, "other.nii.gz")).reason == "result-not-found"
    assert refusal(lambda: download(rpc, str(uuid4()))).reason == "job-not-found"
    assert refusal(lambda: download(rpc, rpc.api.job())).reason == "job-not-finished"


def test_a_slow_reader_is_read_ahead_for_only_a_little(
    rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, is_over = [], threading.Event()

    def endless(*_args: Any) -> Any:
        try:
            while len(read) < 1000:
                read.append(1)
                yield bytes(2**20)
        finally:
            is_over.set()

    rpc.api.job()
    job = rpc.api.work({NAME: b"x" * 1000})
    monkeypatch.setattr(LocalBlobStore, "stream", endless)
    call = download(rpc, job)
    assert next(call).HasField("file")
    assert next(call).HasField("chunk")
    call.cancel()
    assert is_over.wait(WITHIN_S)
    assert len(read) < 100
