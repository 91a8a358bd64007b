"""Everything on this machine: gateway, workers, trainer and live process, as children of this one.

A child that dies is started again, later each time. Children end with this process, also when it
is killed. `python -m service.standalone FACE` is how a child starts.
"""

import ctypes
import fcntl
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from pydantic import SecretStr

from service.cores import usable_cores
from service.errors import ConfigurationError, UnavailableError
from service.own_ports import free_ports, is_free, is_ready, reachable, require_free
from service.settings import Settings

MODULES = {
    "gateway": "service.gateway.main",
    "worker": "service.worker.main",
    "live": "service.live.main",
    "trainer": "service.worker.main",
}
# A trainer is a worker that serves another queue.
OWN_ENVIRONMENT = {"trainer": {"WARPLINE_QUEUES": "train"}}
READY_WITHIN_S = 180.0  # two Pythons start, one after the other, on a busy machine
STOP_WITHIN_S = 15.0
LOOK_EVERY_S = 0.2
FIRST_BACK_OFF_S, LONGEST_BACK_OFF_S = 0.5, 30.0
STEADY_AFTER_S = 60.0  # a child that lived this long starts again at the shortest back-off
DEATHS_BEFORE_GIVING_UP = 3
LOG_TAIL_LINES = 20
LOG_ROTATE_BYTES = 10 * 2**20
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>

Tell = Callable[[str], None]


def _silent(_sentence: str) -> None:
    """Nobody listens."""


@dataclass
class Child:
    """One process of the stack and how it fares."""

    name: str
    face: str
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_again_at: float = 0.0
    deaths_in_a_row: int = 0

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.is_alive and self.process else None

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self, env: dict[str, str]) -> None:
        """Start the process in a session of its own, so that Ctrl-C reaches only its parent."""
        _rotate(self.log)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service.standalone", self.face],
                env=env | OWN_ENVIRONMENT.get(self.face, {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started_at = time.monotonic()

    def note_death(self) -> float:
        """Decide when to start again; returns the seconds until then."""
        steady = time.monotonic() - self.started_at > STEADY_AFTER_S
        self.deaths_in_a_row = 1 if steady else self.deaths_in_a_row + 1
        wait_s: float = min(
            LONGEST_BACK_OFF_S, FIRST_BACK_OFF_S * 2.0 ** (self.deaths_in_a_row - 1)
        )
        self.start_again_at = time.monotonic() + wait_s
        return wait_s

    def last_lines(self, count: int = LOG_TAIL_LINES) -> list[str]:
        """The end of its log."""
        with suppress(FileNotFoundError), self.log.open(errors="replace") as log:
            return [line.rstrip("\n") for line in deque(log, maxlen=count)]
        return []


@dataclass
class Stack:
    """The embedded service. A context manager: inside it the service answers at `url`.

    Port 0 picks a free one. Two stacks never share a data folder.

    Raises:
        ConfigurationError: If the data folder is in use, the port is taken, or a child cannot
            start; the sentence holds the last lines of its log.
        UnavailableError: If the service is not ready within three minutes.
    """

    settings: Settings
    tell: Tell = _silent
    should_stop: Callable[[], bool] = lambda: False
    _children: list[Child] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _supervisor: threading.Thread | None = None
    _lock: IO[str] | None = None

    def __post_init__(self) -> None:
        data_dir = self.settings.data_dir.resolve()
        port = self.settings.port or free_ports(self.settings.host, 1)[0]
        trains = self.settings.training and is_trainer_installed()
        changes = {"data_dir": data_dir, "port": port, "training": trains}
        self.settings = self.settings.model_copy(update=changes)
        self.settings = self.settings.model_copy(update=_rpc_settings(self.settings))

    @property
    def url(self) -> str:
        return f"http://{self._at(self.port)}"

    @property
    def grpc_target(self) -> str | None:
        """HOST:PORT of the gRPC API, if there is one."""
        return self._at(self.settings.grpc_port) if self.settings.grpc_port else None

    def _at(self, port: int) -> str:
        host = reachable(self.settings.host)
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def folder(self) -> Path:
        """Where the data and the logs are."""
        return self.settings.data_dir

    @property
    def port(self) -> int:
        return self.settings.port

    @property
    def children(self) -> tuple[Child, ...]:
        return tuple(self._children)

    def __enter__(self) -> Self:
        self._lock = lock_folder(self.settings.data_dir)
        try:
            require_free(self.settings.host, self.port, "--port")
            if self.settings.grpc_port:
                require_free(self.settings.host, self.settings.grpc_port, "--grpc-port")
            self._children = self._planned()
            self._supervisor = threading.Thread(target=self._supervise, name="stack", daemon=True)
            self._supervisor.start()
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def require_children(self) -> None:
        """Look whether a child keeps dying.

        Raises:
            ConfigurationError: With the end of its log.
        """
        for child in self._children:
            if child.deaths_in_a_row >= DEATHS_BEFORE_GIVING_UP:
                raise ConfigurationError(_cannot_start(child))

    def stop(self) -> None:
        """End all children, gently first, and free the data folder. May be called twice."""
        self._stop.set()
        if self._supervisor is not None:
            self._supervisor.join()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _planned(self) -> list[Child]:
        logs = self.settings.data_dir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        workers = [f"worker-{n}" for n in range(1, self.settings.workers + 1)]
        names = [("gateway", "gateway"), *((name, "worker") for name in workers)]
        if self.settings.training:
            names.append(("trainer", "trainer"))
        if self.settings.live:
            names.append(("live", "live"))
        return [Child(name, face, logs / f"{name}.log") for name, face in names]

    def _supervise(self) -> None:
        """Start what should run, until told to stop.

        One thread starts every child, because Linux ends a child with the thread that made it.
        """
        env = child_environment(self.settings)
        while not self._stop.is_set():
            for child in self._children:
                self._look_after(child, env)
            self._stop.wait(LOOK_EVERY_S)
        self._end_children()

    def _end_children(self) -> None:
        for child in self._children:
            _signal(child, signal.SIGTERM)
        until = time.monotonic() + STOP_WITHIN_S
        for child in self._children:
            _wait(child, until)

    def _look_after(self, child: Child, env: dict[str, str]) -> None:
        if child.is_alive:
            return
        if child.process is not None:
            code, child.process = child.process.returncode, None
            wait_s = child.note_death()
            lines = "\n  ".join(child.last_lines(5))
            self.tell(
                f"{child.name} ended ({_end(code)}); starting it again in {wait_s:g} s.\n  {lines}"
            )
        elif time.monotonic() >= child.start_again_at:
            child.start(env)

    def _wait_until_ready(self) -> None:
        until = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < until:
            if is_ready(self.settings.host, self.port) or self.should_stop():
                return
            self.require_children()
            time.sleep(0.05)
        raise UnavailableError(
            f"The service was not ready within {READY_WITHIN_S:g} s; "
            f"see {self.settings.data_dir / 'logs'}."
        )


def is_trainer_installed() -> bool:
    """Whether a trainer could run here; nothing is imported."""
    return all(find_spec(name) for name in ("torch", "safetensors", "trainer"))


def is_live_installed() -> bool:
    """Whether a live process could run here; nothing is imported."""
    return all(find_spec(name) for name in ("grpc", "onnxruntime", "prometheus_client"))


def _rpc_settings(settings: Settings) -> dict[str, object]:
    """Ports of the gRPC API and of the live process behind it, where none were chosen.

    A live process is started where the gateway has a gRPC port to reach it by, and no other live
    process was named.
    """
    host, port = settings.host, settings.grpc_port
    if port is None:
        port = settings.port + 1 if is_free(host, settings.port + 1) else free_ports(host, 1)[0]
    runs = settings.live and settings.live_address is None and bool(port) and is_live_installed()
    if not runs:
        return {"grpc_port": port, "live": False}
    here = settings.live_host
    free = dict(zip(("live_port", "live_http_port"), free_ports(here, 2), strict=True))
    chosen = {name: getattr(settings, name) for name in free if name in settings.model_fields_set}
    ports = free | {name: value for name, value in chosen.items() if value}
    address = f"{reachable(here)}:{ports['live_port']}"
    return {"grpc_port": port, "live": True, "live_address": address, **ports}


def child_environment(settings: Settings) -> dict[str, str]:
    """The environment that makes a child read the same settings as these."""
    threads = settings.threads or max(1, usable_cores() // settings.workers)
    values = {**dict(settings), "threads": threads}
    env = {name: value for name, value in os.environ.items() if not name.startswith("WARPLINE_")}
    for name, value in values.items():
        if value is not None:
            plain = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            env[f"WARPLINE_{name.upper()}"] = plain
    env["PYTHONUNBUFFERED"] = "1"
    return env


def lock_folder(folder: Path) -> IO[str]:
    """Hold the data folder until the returned file is closed.

    Raises:
        ConfigurationError: If another stack holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "stack.lock").open("a+")
    except OSError as error:
        raise ConfigurationError(
            f"The data folder {folder} cannot be written ({error.strerror}); "
            "choose another with WARPLINE_DATA_DIR."
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise ConfigurationError(
            f"Another `warpline up` uses the data folder {folder}; "
            "stop it, or choose another folder with WARPLINE_DATA_DIR."
        ) from None
    return lock


def _signal(child: Child, number: signal.Signals) -> None:
    if child.is_alive and child.process is not None:
        with suppress(ProcessLookupError):
            child.process.send_signal(number)


def _wait(child: Child, until: float) -> None:
    """Wait for a child's end; after the time is up, end its whole process group."""
    if child.process is None:
        return
    try:
        child.process.wait(max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()


def _end(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _cannot_start(child: Child) -> str:
    lines = "\n  ".join(child.last_lines())
    return f"The {child.name} cannot start. The end of its log, {child.log}:\n  {lines}"


def _rotate(log: Path) -> None:
    if log.exists() and log.stat().st_size > LOG_ROTATE_BYTES:
        log.replace(log.with_suffix(".log.1"))


def _die_with_parent() -> None:
    """Ask Linux to end this process when its parent's thread ends; elsewhere nothing happens."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died in between
            sys.exit(1)


if __name__ == "__main__":
    _die_with_parent()
    face = sys.argv.pop(1)
    runpy.run_module(MODULES[face], run_name="__main__", alter_sys=True)
