"""Everything on this machine: a gateway, its workers and a trainer, as children of this process.

A child that dies is started again, later each time. Children end with this process, also when it
is killed. `python -m service.standalone gateway|worker|trainer` is how a child starts.
"""

import ctypes
import fcntl
import http.client
import os
import runpy
import signal
import socket
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

from service.errors import ConfigurationError, UnavailableError
from service.settings import Settings

MODULES = {
    "gateway": "service.gateway.main",
    "worker": "service.worker.main",
    "trainer": "service.worker.main",
}
# A trainer is a worker that serves another queue.
OWN_ENVIRONMENT = {"trainer": {"WARPLINE_QUEUES": "train"}}
READY_WITHIN_S = 60.0
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
        UnavailableError: If the service is not ready within a minute.
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
        port = self.settings.port or free_port(self.settings.host)
        trains = self.settings.training and is_trainer_installed()
        changes = {"data_dir": data_dir, "port": port, "training": trains}
        self.settings = self.settings.model_copy(update=changes)

    @property
    def url(self) -> str:
        host = self.settings.host
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

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

    def worker_pids(self) -> list[int]:
        """Process ids of the workers that live now."""
        return [c.pid for c in self._children if c.face == "worker" and c.pid is not None]

    def __enter__(self) -> Self:
        self._lock = lock_folder(self.settings.data_dir)
        try:
            _require_free(self.settings.host, self.port)
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


def child_environment(settings: Settings) -> dict[str, str]:
    """The environment that makes a child read the same settings as these."""
    threads = settings.threads or max(1, (os.cpu_count() or 1) // settings.workers)
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


def free_port(host: str) -> int:
    """A port that nobody listens on just now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def is_ready(host: str, port: int) -> bool:
    """Whether `/readyz` answers 200."""
    reach = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    connection = http.client.HTTPConnection(reach, port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _require_free(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigurationError(
                f"Cannot listen on {host}, port {port} ({error.strerror}); "
                "choose another with --port, or --port 0 for a free one."
            ) from error


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
