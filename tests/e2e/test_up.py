"""`warpline up` and what may happen to its processes."""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import httpx
import psutil
import pytest

from service.client import Client
from service.pb import warpline_pb2 as pb
from service.pb.warpline_pb2_grpc import LiveServiceStub
from tests.e2e.conftest import PATIENCE_S, WARPLINE, Up
from tests.integration.chaos import is_alive


def wait_until(is_so: Callable[[], bool], seconds: float = PATIENCE_S) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if is_so():
            return True
        time.sleep(0.05)
    return is_so()


def test_a_killed_worker_loses_nothing(make_up: Callable[..., Up], pair: dict[str, Path]) -> None:
    up = make_up("--workers", "1")
    killed: list[int] = []

    def kill_once(job: object) -> None:
        if getattr(job, "state", "") == "running" and not killed:
            for child in up.children("worker"):
                killed.append(child.pid)
                up.kill(child)

    with Client(up.url) as client:
        fixed, moving = pair["fixed"], pair["moving"]
        for _ in range(5):
            killed.clear()
            job = client.register(fixed, moving, wait=True, progress=kill_once, refine=3.0)
            if job.attempt > 1:
                break  # else the job had ended before this process had its turn
        types = [event.type for event in client.events(job.id)]
    assert killed
    assert job.attempt == 2
    assert types.count("succeeded") == 1
    assert "requeued" in types
    assert up.stop() == 0


def test_live_sessions_are_reached_by_the_grpc_port_and_come_back_after_a_kill(
    make_up: Callable[..., Up],
) -> None:
    up = make_up()

    def answers() -> bool:
        """Whether the live process behind the gateway answers a heartbeat."""
        with grpc.insecure_channel(up.grpc) as channel:
            beat = iter([pb.LiveRequest(heartbeat=pb.Heartbeat(nonce=7))])
            try:
                return (
                    next(LiveServiceStub(channel).Live(beat, timeout=PATIENCE_S)).heartbeat.nonce
                    == 7
                )
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                return False

    assert wait_until(answers)
    (live,) = up.children("live")
    live.kill()
    assert wait_until(lambda: not live.is_running())
    assert wait_until(answers)
    assert [child.pid for child in up.children("live")] != [live.pid]
    assert up.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_stops_everything(make_up: Callable[..., Up], number: signal.Signals) -> None:
    up = make_up("--workers", "2")
    children = psutil.Process(up.process.pid).children(recursive=True)
    assert len(up.children("worker")) == 2
    assert up.stop(number) == 0
    assert wait_until(lambda: not any(map(is_alive, children)))
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{up.url}/healthz", timeout=PATIENCE_S)


def test_children_do_not_outlive_a_killed_parent(make_up: Callable[..., Up]) -> None:
    up = make_up()
    children = psutil.Process(up.process.pid).children(recursive=True)
    up.stop(signal.SIGKILL)
    assert wait_until(lambda: not any(map(is_alive, children)))


def test_a_dead_gateway_comes_back(make_up: Callable[..., Up]) -> None:
    up = make_up()
    (gateway,) = up.children("gateway")
    gateway.kill()
    assert wait_until(lambda: not gateway.is_running())

    def answers() -> bool:
        try:
            return httpx.get(f"{up.url}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    assert wait_until(answers)


def test_two_stacks_do_not_share_a_folder(make_up: Callable[..., Up]) -> None:
    up = make_up()
    command = [*WARPLINE, "up", "--port", "0", "--data-dir", str(up.data_dir)]
    second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert "Another" in second.stderr
    assert httpx.get(f"{up.url}/readyz", timeout=PATIENCE_S).status_code == 200


def test_a_taken_port_is_told(make_up: Callable[..., Up], tmp_path: Path) -> None:
    port = make_up().url.rpartition(":")[2]
    command = [*WARPLINE, "up", "--port", port, "--data-dir", str(tmp_path / "other")]
    second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert "--port" in second.stderr
