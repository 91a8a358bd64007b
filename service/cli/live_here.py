"""A live process of our own, for a command that was given no server."""

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from service.errors import MissingExtraError, UnavailableError

if TYPE_CHECKING:
    from service.standalone import Child

READY_WITHIN_S = 180.0
STOP_WITHIN_S = 10.0
LOOK_EVERY_S = 0.1


@contextmanager
def live_here() -> Iterator[str]:
    """The address of a live process that ends with the block.

    Raises:
        MissingExtraError: If it is not installed.
        UnavailableError: If it does not start; the sentence holds the end of its log.
    """
    from service.own_ports import free_ports, is_ready
    from service.settings import Settings
    from service.standalone import Child, child_environment, is_live_installed

    if not is_live_installed():
        raise MissingExtraError(
            "Live sessions in this machine need more than is installed: pip install "
            '"warpline[all-cpu]"; or name a server with --url grpc://HOST:PORT.'
        )
    host = "127.0.0.1"
    grpc_port, http_port = free_ports(host, 2)
    with tempfile.TemporaryDirectory(prefix="warpline-live-") as folder:
        ports = {"live_host": host, "live_port": grpc_port, "live_http_port": http_port}
        settings = Settings().model_copy(
            update={**ports, "data_dir": Path(folder), "api_keys": None}
        )
        child = Child("live", "live", Path(folder) / "live.log")
        child.start(child_environment(settings))
        try:
            _wait_until_ready(child, lambda: is_ready(host, http_port))
            yield f"grpc://{host}:{grpc_port}"
        finally:
            _end(child)


def _wait_until_ready(child: "Child", is_ready: Callable[[], bool]) -> None:
    until = time.monotonic() + READY_WITHIN_S
    while child.is_alive and time.monotonic() < until:
        if is_ready():
            return
        time.sleep(LOOK_EVERY_S)
    lines = "\n  ".join(child.last_lines(5))
    raise UnavailableError(f"The live process did not start.\n  {lines}")


def _end(child: "Child") -> None:
    process = child.process
    if process is None:
        return
    process.terminate()
    try:
        process.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
