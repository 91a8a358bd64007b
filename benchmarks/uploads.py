"""How fast a file goes up over gRPC, beside a bare stream whose chunks are thrown away.

    python benchmarks/uploads.py [--mib 512] [--runs 5]

Gateway, client and the bare server run on this machine, on loopback, and share its cores. Both
streams carry the same messages; what the gateway adds is CRC-32, SHA-256, the write and flush to
disk and the database. Each run writes the disk's own pace down as well.
"""

import argparse
import asyncio
import os
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import grpc
from isal import isal_zlib

from service.pb import warpline_pb2 as pb
from service.pb.warpline_pb2_grpc import (
    WarplineServiceServicer,
    WarplineServiceStub,
    add_WarplineServiceServicer_to_server,
)
from service.rpc.allocator import keep_message_buffers

MIB = 2**20
OPTIONS = (
    ("grpc.max_receive_message_length", 4 * MIB),
    ("grpc.max_send_message_length", 4 * MIB),
)
READY_WITHIN_S = 60.0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Figures:
    """Seconds of each run, in the order they were made."""

    size_bytes: int
    gateway_s: list[float] = field(default_factory=list)
    bare_s: list[float] = field(default_factory=list)
    disk_s: list[float] = field(default_factory=list)

    def gigabytes_per_s(self, seconds: Sequence[float]) -> float:
        """The median run."""
        return self.size_bytes / statistics.median(seconds) / 1e9

    def best(self, seconds: Sequence[float]) -> float:
        """The fastest run, which others disturbed least."""
        return self.size_bytes / min(seconds) / 1e9

    def __str__(self) -> str:
        rows = [
            ("upload to the gateway", self.gateway_s),
            ("bare stream, thrown away", self.bare_s),
            ("written and flushed, no network", self.disk_s),
        ]
        lines = [
            f"{name:32} median {self.gigabytes_per_s(s):5.2f} GB/s   best {self.best(s):5.2f} GB/s"
            for name, s in rows
        ]
        ratios = [bare / ours for bare, ours in zip(self.bare_s, self.gateway_s, strict=True)]
        return "\n".join([*lines, f"share of the bare stream: {statistics.median(ratios):.2f}"])


class Discarding(WarplineServiceServicer):
    """A server that reads every chunk and keeps none."""

    async def Upload(self, request_iterator, context):  # type: ignore[no-untyped-def]  # noqa: ARG002, N802
        """Tell at the end how much there was."""
        received = 0
        async for request in request_iterator:
            received += len(request.chunk.data)
        yield pb.UploadResponse(received=pb.FileReceived(received_bytes=received))


async def _discard(port: int) -> None:
    server = grpc.aio.server(options=list(OPTIONS))
    add_WarplineServiceServicer_to_server(Discarding(), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


def messages(data: bytes, chunk_bytes: int) -> Iterator[pb.UploadRequest]:
    """The file as an Upload call sends it."""
    view = memoryview(data)
    yield pb.UploadRequest(start=pb.FileStart(size_bytes=len(data)))
    for offset in range(0, len(data), chunk_bytes):
        piece = bytes(view[offset : offset + chunk_bytes])
        request = pb.UploadRequest()  # filled in place: a chunk made first would be copied into it
        request.chunk.offset, request.chunk.data = offset, piece
        request.chunk.crc32 = isal_zlib.crc32(piece)
        yield request


def send(port: int, data: bytes, chunk_bytes: int = MIB) -> tuple[float, pb.FileReceived]:
    """Upload once; gives the seconds until the last answer, and that answer."""
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=list(OPTIONS)) as channel:
        grpc.channel_ready_future(channel).result(READY_WITHIN_S)
        began = time.perf_counter()
        last = list(WarplineServiceStub(channel).Upload(messages(data, chunk_bytes)))[-1]
        return time.perf_counter() - began, last.received


@contextmanager
def running(command: Sequence[str], **env: str) -> Iterator[int]:
    """A server process; its port goes with WARPLINE_GRPC_PORT."""
    port = _free_port()
    process = subprocess.Popen(
        [sys.executable, *command],
        env=os.environ | {"WARPLINE_GRPC_PORT": str(port)} | env,
        stderr=subprocess.DEVNULL,
    )
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            grpc.channel_ready_future(channel).result(READY_WITHIN_S)
        yield port
    finally:
        process.terminate()
        process.wait()


def _to_disk(folder: Path, data: bytes) -> float:
    target = folder / "plain"
    began = time.perf_counter()
    with target.open("wb") as file:
        file.write(data)
        os.fsync(file.fileno())
    seconds = time.perf_counter() - began
    target.unlink()
    return seconds


def measure(mib: int = 512, runs: int = 5, folder: Path | None = None) -> Figures:
    """Uploads and bare streams in turns, the same bytes each time."""
    keep_message_buffers()
    data = secrets.token_bytes(MIB) * mib
    figures = Figures(len(data))
    wanted = sha256(data).digest()
    with tempfile.TemporaryDirectory(dir=folder) as made:
        gateway = {"WARPLINE_DATA_DIR": made, "WARPLINE_PORT": "0", "WARPLINE_MIN_FREE_MIB": "0"}
        with (
            running(["-m", "service.gateway.main"], **gateway) as ours,
            running([__file__, "--discard"]) as bare,
        ):
            for _ in range(runs):
                seconds, told = send(ours, data)
                if told.sha256 != wanted:
                    raise SystemExit("The gateway has another file than was sent.")
                figures.gateway_s.append(seconds)
                figures.bare_s.append(send(bare, data)[0])
                figures.disk_s.append(_to_disk(Path(made), data))
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--discard", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.discard:
        keep_message_buffers()
        asyncio.run(_discard(int(os.environ["WARPLINE_GRPC_PORT"])))
    else:
        print(measure(chosen.mib, chosen.runs))


if __name__ == "__main__":
    main()
