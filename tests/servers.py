"""Real servers for tests: Redis, PostgreSQL and S3 (Ceph), on loopback, without persistence.

Each is started once a session in a temporary folder and on a free port, and stopped at the end.
One that is not installed is a skip on a laptop and a failure in CI.
"""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.ceph import CephS3

REDIS_BINARIES = ("redis-server", "valkey-server")
# Below those that systems give to connections, and to whoever binds port 0.
FIRST_PORT, END_PORT = 10_000, 32_768
PATIENCE_S = 120  # of a busy machine


def missing(what: str) -> None:
    """Skip, or fail where everything should be installed."""
    message = f"{what} is not installed here"
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(message)
    pytest.skip(message)


def free_port() -> int:
    """A port that no test takes until this process ends, though nobody listens there yet.

    A UDP socket of the same number, which nothing here uses, keeps it from other processes: a
    server may take long to start, or be killed and started again.
    """
    while True:
        port = FIRST_PORT + secrets.randbelow(END_PORT - FIRST_PORT)
        with (
            contextlib.suppress(OSError),
            socket.socket(type=socket.SOCK_DGRAM) as claim,
            socket.socket() as probe,
        ):
            claim.bind(("127.0.0.1", port))
            probe.bind(("127.0.0.1", port))
            claim.detach()
            return port


def wait_for_port(port: int, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"the server exited with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on port {port}")


@dataclass
class RedisServer:
    """A Redis that keeps nothing, so that losing it is easy to test."""

    binary: str
    folder: Path
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        options += ["--save", "", "--appendonly", "no", "--loglevel", "warning"]
        self.process = subprocess.Popen([self.binary, *options], stdout=subprocess.DEVNULL)
        wait_for_port(self.port, self.process)

    def kill(self) -> None:
        """SIGKILL: everything it held is lost."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@dataclass
class PostgresServer:
    """A PostgreSQL cluster of its own; `new_database` gives each test an empty database."""

    binaries: Path
    folder: Path
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        self.folder.mkdir()
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            os.chown(self.folder, pwd.getpwnam("postgres").pw_uid, -1)
        data = self.folder / "data"
        initdb = ["initdb", "-D", str(data), "-U", "warpline", "-A", "trust", "-E", "UTF8"]
        self._run([*initdb, "--no-sync", "--no-locale"])
        options = ["-D", str(data), "-p", str(self.port), "-k", str(self.folder)]
        options += ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        options += ["-c", "max_connections=60", "-c", "log_min_messages=fatal"]
        command = self._command(["postgres", *options])
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdout=quiet, stderr=quiet, cwd="/")
        wait_for_port(self.port, self.process)
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        """The port opens a moment before connections are let in."""
        ready = ["pg_isready", "-h", "127.0.0.1", "-p", str(self.port), "-U", "warpline"]
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            answer = subprocess.run(self._command(ready), check=False, capture_output=True, cwd="/")
            if answer.returncode == 0:
                return
            time.sleep(0.1)
        raise TimeoutError("PostgreSQL does not answer")

    def new_database(self) -> str:
        """The URL of an empty database."""
        name = f"test_{secrets.token_hex(6)}"
        address = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "warpline"]
        self._run(["createdb", *address, name])
        return f"postgresql+psycopg://warpline@127.0.0.1:{self.port}/{name}"

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)  # fast shutdown
            self.process.wait(PATIENCE_S)

    def _run(self, command: list[str]) -> None:
        subprocess.run(self._command(command), check=True, capture_output=True, cwd="/")

    def _command(self, command: list[str]) -> list[str]:
        program = [str(self.binaries / command[0]), *command[1:]]
        if os.geteuid() != 0:
            return program
        return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *program]


def postgres_binaries() -> Path | None:
    """Debian keeps them out of the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return None if on_path is None else Path(on_path).parent


@pytest.fixture(scope="session")
def redis_binary() -> str:
    found = next((path for name in REDIS_BINARIES if (path := shutil.which(name))), None)
    if found is None:
        missing("Redis")
    return str(found)


@pytest.fixture(scope="session")
def redis_server(
    redis_binary: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer]:
    server = RedisServer(redis_binary, tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    binaries = postgres_binaries()
    if binaries is None:
        missing("PostgreSQL")
    # Not in pytest's own folder, which other users than this one may not enter.
    folder = Path(f"/tmp/warpline-postgres-{secrets.token_hex(6)}")  # noqa: S108
    folder.mkdir(mode=0o755)
    server = PostgresServer(Path(str(binaries)), folder / "cluster")
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """An empty PostgreSQL database."""
    return postgres_server.new_database()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CephS3]:
    if not CephS3.is_installed():
        missing("An S3 server (Ceph's radosgw, ceph-mon and ceph-osd)")
    server = CephS3(tmp_path_factory.mktemp("ceph"), free_port(), free_port())
    try:
        server.start()
        yield server
    finally:
        server.stop()
