"""The gRPC face of real processes: told to stop, killed, flooded, and with many who only wait."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from service.pb import warpline_pb2 as pb
from service.pb.warpline_pb2_grpc import LiveServiceStub, WarplineServiceStub
from tests.integration.test_rest_slow_clients import PATIENT, wait_until_healthy
from tests.servers import free_port
from tests.unit.gateway.conftest import PAIR
from tests.unit.gateway.rpc.conftest import refusal

ROOT = Path(__file__).parents[2]
WITHIN_S = 300.0  # of a busy machine
HANDSHAKE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@dataclass(frozen=True)
class Gateway:
    """A gateway process with both faces."""

    process: "subprocess.Popen[bytes]"
    port: int
    grpc_port: int
    log: Path

    def register(self) -> str:
        url = f"http://127.0.0.1:{self.port}/v1/register"
        answer = httpx.post(url, files=PAIR, timeout=WITHIN_S)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])


@contextmanager
def gateway(folder: Path, **settings: object) -> Iterator[Gateway]:
    port, grpc_port, log = free_port(), free_port(), folder / "gateway.log"
    chosen: dict[str, object] = {"DATA_DIR": folder / "data", "MIN_FREE_MIB": 0}
    chosen |= {"PORT": port, "GRPC_PORT": grpc_port}
    chosen |= PATIENT | settings
    environment = {f"WARPLINE_{name}": str(value) for name, value in chosen.items()}
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "service.gateway.main"],
            cwd=ROOT,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)} | environment,
            stderr=output,
            stdout=output,
        )
    try:
        wait_until_healthy(port, process, log)
        yield Gateway(process, port, grpc_port, log)
    finally:
        process.terminate()
        assert process.wait(timeout=300) in (0, -15, -9)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("rpc")) as made:
        yield made


@contextmanager
def stub_of(port: int) -> Iterator[WarplineServiceStub]:
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        yield WarplineServiceStub(channel)


def test_told_to_stop_it_says_so_and_ends_and_the_watch_goes_on_at_another(tmp_path: Path) -> None:
    with gateway(tmp_path) as first, gateway(tmp_path) as second:
        job = first.register()
        with stub_of(first.grpc_port) as stub:
            answers = stub.WatchJob(pb.WatchJobRequest(job_id=job), timeout=WITHIN_S)
            seen = next(answers).event.number
            first.process.send_signal(signal.SIGTERM)
            told = refusal(lambda: answers)
        assert (told.code, told.reason) == ("UNAVAILABLE", "unavailable")
        assert first.process.wait(timeout=WITHIN_S) in (0, -signal.SIGTERM)
        assert "Traceback" not in first.log.read_text()
        with stub_of(second.grpc_port) as stub:
            stub.CancelJob(pb.CancelJobRequest(job_id=job))
            again = stub.WatchJob(
                pb.WatchJobRequest(job_id=job, after_event=seen), timeout=WITHIN_S
            )
            assert [answer.event.type for answer in again] == ["cancelled"]


def test_a_killed_gateway_loses_no_job(tmp_path: Path) -> None:
    with gateway(tmp_path) as first:
        job = first.register()
        first.process.kill()
        first.process.wait()
    with gateway(tmp_path) as second, stub_of(second.grpc_port) as stub:
        assert stub.GetJob(pb.GetJobRequest(job_id=job)).job.state == pb.JOB_STATE_QUEUED


def test_a_hundred_idle_streams_of_as_many_clients_leave_the_others_alone(
    running: Gateway,
) -> None:
    job = running.register()
    with ExitStack() as clients:
        idle = []
        for _ in range(100):
            stub = clients.enter_context(stub_of(running.grpc_port))
            idle.append(stub.WatchJob(pb.WatchJobRequest(job_id=job), timeout=300))
        assert {next(answers).event.type for answers in idle} == {"queued"}
        with stub_of(running.grpc_port) as stub, ThreadPoolExecutor(4) as threads:
            asked = pb.GetJobRequest(job_id=job)
            found = list(threads.map(lambda _: stub.GetJob(asked, timeout=WITHIN_S), range(100)))
        assert {answer.job.id for answer in found} == {job}
        url = f"http://127.0.0.1:{running.port}"
        assert httpx.get(f"{url}/readyz", timeout=WITHIN_S).status_code == 200
        httpx.post(f"{url}/v1/jobs/{job}/cancel", timeout=WITHIN_S)
        assert {[a.event.type for a in answers][-1] for answers in idle} == {"cancelled"}
    assert "Traceback" not in running.log.read_text()


def test_what_is_no_grpc_does_it_no_harm(running: Gateway) -> None:
    for data in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01" + os.urandom(200),
        HANDSHAKE + b"\0" * 99,
    ):
        with socket.create_connection(("127.0.0.1", running.grpc_port), timeout=60) as connection:
            connection.sendall(data)
            try:
                while connection.recv(4096):
                    continue
            except ConnectionResetError:
                continue
    with grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=WITHIN_S).status == 1


@dataclass
class LiveProcess:
    """The live process beside a gateway, as `warpline up` starts it."""

    port: int
    folder: Path
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        environment = {
            "WARPLINE_LIVE_PORT": str(self.port),
            "WARPLINE_LIVE_HTTP_PORT": str(free_port()),
            "WARPLINE_LIVE_IDLE_TIMEOUT_S": "600",
            "WARPLINE_DATA_DIR": str(self.folder / "live"),
        }
        with (self.folder / "live.log").open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service.live.main"],
                cwd=ROOT,
                env=dict(os.environ) | environment,
                stderr=output,
                stdout=output,
            )

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def beats(stub: LiveServiceStub) -> bool:
    """Whether a live process behind the gateway answers a heartbeat."""
    asked = iter([pb.LiveRequest(heartbeat=pb.Heartbeat(nonce=7))])
    try:
        return next(stub.Live(asked, timeout=WITHIN_S)).heartbeat.nonce == 7
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return False


def wait_for(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + WITHIN_S
    pause = threading.Event()
    while not is_so():
        assert time.monotonic() < until, "it did not come about"
        pause.wait(0.1)


def test_a_killed_live_process_is_told_and_used_again_when_it_is_back(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    live = LiveProcess(free_port(), tmp_path)
    with ExitStack() as cleanup:
        cleanup.callback(live.kill)
        made = cleanup.enter_context(gateway(tmp_path, LIVE_ADDRESS=f"127.0.0.1:{live.port}"))
        channel = cleanup.enter_context(grpc.insecure_channel(f"127.0.0.1:{made.grpc_port}"))
        stub = LiveServiceStub(channel)
        live.start()
        wait_for(lambda: beats(stub))
        held = threading.Event()

        def requests() -> Iterator[pb.LiveRequest]:
            yield pb.LiveRequest(heartbeat=pb.Heartbeat(nonce=1))
            held.wait(WITHIN_S)

        session = stub.Live(requests(), timeout=WITHIN_S)
        assert next(session).heartbeat.nonce == 1
        live.kill()
        told = refusal(lambda: session)
        held.set()
        assert (told.code, told.reason) == ("UNAVAILABLE", "unavailable")
        assert told.retry_s is not None
        live.start()
        wait_for(lambda: beats(stub))
