"""Uploads to gateways that are killed: what was acknowledged is there, wherever one asks."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import nibabel as nib
import numpy as np
import psutil
import pytest

from service.pb import warpline_pb2 as pb
from service.pb.warpline_pb2_grpc import WarplineServiceStub
from service.settings import Settings
from service.stores.build import Stores, open_stores
from tests.integration.chaos import ROOT
from tests.servers import free_port
from tests.upload_sender import Stream

MIB = 2**20
DATA = hashlib.shake_128(b"upload").digest(70 * MIB + 4321)  # large enough for direct writes
PATIENCE_S = 300.0  # of a busy machine
# It looks for a gateway that starts again and again, not ever more seldom.
RECONNECT = [(f"grpc.{name}_reconnect_backoff_ms", 500) for name in ("initial", "min", "max")]


@dataclass
class Gateway:
    """A gateway process on a data folder, and a client of it."""

    data_dir: Path
    process: "subprocess.Popen[bytes] | None" = None
    port: int = 0
    _channels: list[grpc.Channel] = field(default_factory=list)

    def start(self) -> None:
        """Start it; wait with `stub`."""
        self.port = free_port()
        settings = {"DATA_DIR": self.data_dir, "PORT": 0, "GRPC_PORT": self.port, "MIN_FREE_MIB": 0}
        settings |= {"BODY_IDLE_TIMEOUT_S": PATIENCE_S}
        env = {f"WARPLINE_{name}": str(value) for name, value in settings.items()}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "service.gateway.main"],
            cwd=ROOT,
            env=os.environ | env,
            stderr=subprocess.DEVNULL,
        )

    def stub(self) -> WarplineServiceStub:
        channel = grpc.insecure_channel(f"127.0.0.1:{self.port}", RECONNECT)
        self._channels.append(channel)
        grpc.channel_ready_future(channel).result(PATIENCE_S)
        return WarplineServiceStub(channel)

    def kill(self) -> None:
        """SIGKILL, and a new process at another address."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.start()

    def stop(self) -> None:
        for channel in self._channels:
            channel.close()
        if self.process is not None:
            self.process.terminate()
            self.process.wait()


@pytest.fixture(scope="module")
def gateways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Gateway]]:
    """Two on the same stores."""
    data_dir = tmp_path_factory.mktemp("stores")
    with ExitStack() as stack:
        pair = (Gateway(data_dir), Gateway(data_dir))
        for gateway in pair:
            stack.callback(gateway.stop)
            gateway.start()
            gateway.stub()
        yield pair


@pytest.fixture
def stores(gateways: tuple[Gateway, Gateway]) -> Iterator[Stores]:
    opened = open_stores(Settings(data_dir=gateways[0].data_dir))
    yield opened
    opened.close()


def stored(stores: Stores, upload_id: str) -> bytes:
    return stores.blobs.get_bytes(stores.uploads.upload(UUID(upload_id), "local").key)


def send_until(stream: Stream, start: int, end: int, acknowledged: int) -> int:
    """Send these bytes and wait until some of them are acknowledged; gives how many are."""
    stream.send_file(DATA[:end], start, MIB)
    received = start
    while received < acknowledged:
        received = stream.next().received_bytes
    return received


def test_an_upload_survives_its_gateways(gateways: tuple[Gateway, Gateway], stores: Stores) -> None:
    rng = random.Random(3)
    upload_id, safe = "", 0
    for turn in range(3):  # killed while bytes are under way, at a byte that nobody chose
        gateway = gateways[turn % 2]
        stream = Stream(gateway.stub().Upload, pb.UploadRequest)
        start = pb.FileStart(
            size_bytes=len(DATA), sha256=hashlib.sha256(DATA).digest(), upload_id=upload_id
        )
        opened = stream.send(start=start).next()
        assert opened.received_bytes >= safe
        upload_id = opened.upload_id
        end = opened.received_bytes + rng.randrange(17 * MIB, 20 * MIB)
        safe = send_until(stream, opened.received_bytes, end, opened.received_bytes + 8 * MIB)
        time.sleep(rng.random() / 50)
        gateway.kill()
        stream.break_off()
    stream = Stream(gateways[1].stub().Upload, pb.UploadRequest)
    opened = stream.send(start=pb.FileStart(upload_id=upload_id)).next()
    assert opened.received_bytes >= safe > 3 * 8 * MIB - 3
    last = stream.send_file(DATA, opened.received_bytes, MIB).end().rest()[-1]
    assert (last.is_complete, last.sha256) == (True, hashlib.sha256(DATA).digest())
    assert stored(stores, upload_id) == DATA
    assert len(stores.blobs.list(f"uploads/{upload_id}/")) == 1


def volume(seed: int) -> bytes:
    data = np.random.default_rng(seed).integers(0, 200, (120, 110, 100)).astype(np.int16)
    return bytes(nib.Nifti1Image(data, np.eye(4)).to_bytes())


def test_a_registration_goes_on_through_another_gateway(
    gateways: tuple[Gateway, Gateway], stores: Stores
) -> None:
    files = {"fixed": volume(1), "moving": volume(2)}
    order = pb.RegisterStart(ticket=pb.Ticket(idempotency_key="once"))
    known: dict[str, str] = {}

    def begin(gateway: Gateway) -> Stream:
        return Stream(gateway.stub().Register, pb.RegisterRequest).send(start=order)

    def send(stream: Stream, role: str, part: float) -> int:
        size = len(files[role])
        start = pb.FileStart(role=role, size_bytes=size, upload_id=known.get(role, ""))
        opened = stream.send(file=start).next()
        known[role] = opened.upload_id
        if opened.received_bytes < size:
            stream.send_file(files[role][: int(part * size)], opened.received_bytes)
        while (received := stream.next().received_bytes) < int(part * size):
            pass
        return int(received)

    stream = begin(gateways[0])
    send(stream, "fixed", 1)
    half = send(stream, "moving", 0.6)
    gateways[0].kill()
    stream.break_off()
    assert stores.jobs.counts() == {}

    told = []
    for gateway in gateways[::-1]:  # and once more, as if JobAccepted had been lost
        stream = begin(gateway)
        send(stream, "fixed", 1)
        upload = stores.uploads.upload(UUID(known["moving"]), "local")
        assert upload.received >= half
        send(stream, "moving", 1)
        stream.send(submit=pb.Submit())
        told.append(stream.next())
        stream.break_off()
    assert [one.is_replayed for one in told] == [False, True]
    job = stores.jobs.job(UUID(told[0].job.id))
    assert told[1].job.id == str(job.id)
    for role, data in files.items():
        assert stores.blobs.get_bytes(job.request.inputs[role].key or "") == data


def test_silent_senders_take_no_memory(gateways: tuple[Gateway, Gateway]) -> None:
    """Each has sent two mebibytes of a large file; they are on the disk, not in memory."""
    gateway = gateways[0]
    stub = gateway.stub()
    process = psutil.Process(gateway.process.pid if gateway.process else 0)
    rounds: list[int] = []
    for _ in range(2):  # the first one warms up
        streams = [Stream(stub.Upload, pb.UploadRequest) for _ in range(80)]
        for stream in streams:
            stream.send(start=pb.FileStart(size_bytes=100 * MIB)).next()
            stream.send_file(DATA[: 2 * MIB], 0, MIB)
        for stream in streams:
            while stream.next().received_bytes < 2 * MIB:
                pass
        rounds.append(process.memory_info().rss)
        for stream in streams:
            stream.break_off()
    assert rounds[1] < 500 * MIB
    assert rounds[1] - rounds[0] < 40 * MIB
    spool = gateway.data_dir / "spool"
    wait_for(lambda: not any(entry for entry in spool.iterdir() if is_of(entry, process)))


def is_of(entry: Path, process: psutil.Process) -> bool:
    """Whether the process has a file of this folder open."""
    return any(Path(file.path).is_relative_to(entry) for file in process.open_files())


def wait_for(condition: Callable[[], Any]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)
