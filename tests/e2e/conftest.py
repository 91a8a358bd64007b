"""`warpline up` in a process of its own, as a user starts it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest

from service.registration.files.volume_file import write_volume
from service.registration.grid import Grid
from service.registration.volume import Volume
from service.settings import Settings
from service.stores.build import open_stores
from tests.integration.chaos import end_leases, is_alive
from tests.servers import free_port

SHAPE = (44, 40, 36)
WARPLINE = [sys.executable, "-m", "service.cli.main"]
PATIENCE_S = 300  # of a busy machine, where clients and workers are slow at times
# Leases end when a test says so: see `kill`.
BRISK = {
    "WARPLINE_LEASE_S": "200",
    "WARPLINE_REAP_EVERY_S": "0.5",
    "WARPLINE_MIN_FREE_MIB": "0",
    "WARPLINE_HEADER_TIMEOUT_S": "300",
    "WARPLINE_BODY_IDLE_TIMEOUT_S": "300",
    "WARPLINE_LIVE_TTL_S": "600",
}


@dataclass
class Up:
    """A running stack."""

    process: subprocess.Popen[str]
    url: str
    data_dir: Path
    grpc: str = ""

    def children(self, face: str) -> list[psutil.Process]:
        """The child processes of one face."""
        found = []
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                if child.cmdline()[-1:] == [face]:
                    found.append(child)
        return found

    def kill(self, worker: psutil.Process) -> None:
        """Kill a worker, and let its lease be over at once."""
        worker.kill()
        until = time.monotonic() + PATIENCE_S
        while is_alive(worker):
            assert time.monotonic() < until, "it outlives its kill"
            time.sleep(0.02)
        stores = open_stores(Settings(data_dir=self.data_dir))
        end_leases(stores)
        stores.close()

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal and wait; returns the exit code."""
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


def start(data_dir: Path, *arguments: str) -> Up:
    """Run `warpline up` until it has told its address."""
    ports = {
        name: str(free_port()) for name in ("PORT", "GRPC_PORT", "LIVE_PORT", "LIVE_HTTP_PORT")
    }
    env = os.environ | BRISK | {f"WARPLINE_{name}": port for name, port in ports.items()}
    command = [*WARPLINE, "up", "--json", "--data-dir", str(data_dir), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if line.startswith("}"):
            break
    told = json.loads(text or "{}")
    up = Up(process, told.get("url", ""), data_dir, told.get("grpc") or "")
    if not up.url:
        up.stop()
        pytest.fail(f"warpline up did not start: {told}")
    return up


@pytest.fixture
def make_up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    """Starts stacks and makes sure that they end."""
    running: list[Up] = []

    def make(*arguments: str) -> Up:
        running.append(start(tmp_path / f"stack-{len(running)}", *arguments))
        return running[-1]

    yield make
    for up in running:
        if up.process.poll() is None:
            up.stop()


@pytest.fixture(scope="session")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One stack with two workers for tests that leave it as it was."""
    running = start(tmp_path_factory.mktemp("stack"), "--workers", "2")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Blobs in a shell; the moving ones are shifted and squeezed."""
    folder = tmp_path_factory.mktemp("pair")
    files = {}
    for role, stretch in (("fixed", 1.0), ("moving", 1.06)):
        grid = Grid(SHAPE, np.diag([4.0, 4.0, 4.0, 1.0]))
        at = (grid.to_world(np.moveaxis(np.indices(SHAPE), 0, -1)) - grid.centre_mm) / 10
        at = at * stretch + np.array([0.4, -0.3, 0.2]) * (stretch - 1) / 0.06
        data = 40.0 * (np.linalg.norm(at, axis=-1) < 6.0)
        for centre in ((2.0, 1.0, 0.0), (-2.0, 1.5, 1.0), (0.0, -2.5, -1.0), (1.0, 0.0, 2.5)):
            data = data + 60 * np.exp(-((at - centre) ** 2).sum(axis=-1))
        files[role] = folder / f"{role}.nii.gz"
        write_volume(files[role], Volume(data.astype(np.float32), grid))
        files[f"{role}_labels"] = folder / f"{role}_labels.nii.gz"
        write_volume(files[f"{role}_labels"], Volume((data > 60).astype(np.uint8), grid))
    return files
