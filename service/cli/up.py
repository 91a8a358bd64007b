"""`warpline up`: the whole service on this machine."""

import os
import signal
import threading
from pathlib import Path
from typing import Annotated, Any

import pydantic
import typer

from service.cli import screen
from service.cli.shared_options import Json
from service.errors import ConfigurationError, MissingExtraError


def up(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one.")
    ] = None,
    grpc_port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Port of the gRPC API; by default the next one. 0: none."
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes.")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Database, files and logs.", file_okay=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Run the service here: gateway, workers, trainer, live sessions; no Redis, no Docker.

    Ctrl-C stops everything. Jobs that were running go on when it is started again.

        warpline up --port 8080 --workers 2

    Without a proxy it listens on this machine only; for others it needs API keys:

        WARPLINE_API_KEYS=alice:6ca1... warpline up --host 0.0.0.0

    What is not given comes from WARPLINE_... variables or a `.env` file.
    """
    require_stack()
    from service.standalone import Stack

    given = {
        "host": host,
        "port": port,
        "grpc_port": grpc_port,
        "workers": workers,
        "data_dir": data_dir,
    }
    settings = make_settings({name: value for name, value in given.items() if value is not None})
    stopped = _stop_on_signals()
    stack = Stack(settings, tell=screen.note, should_stop=stopped.is_set)
    with stack:
        if as_json:
            screen.print_json(_told(stack))
        else:
            _tell(stack)
        screen.flush()
        stopped.wait()
        screen.note("Stopping ...")


def _told(stack: Any) -> dict[str, Any]:
    return {
        "url": stack.url,
        "grpc": stack.grpc_target,
        "live": stack.settings.live,
        "pid": os.getpid(),
        "data_dir": str(stack.folder),
    }


def _tell(stack: Any) -> None:
    console = screen.stdout()
    console.print(f"Warpline is up: {stack.url}   (API: {stack.url}/openapi.json)")
    if stack.grpc_target is not None:
        live = "with live sessions" if stack.settings.live_address else "without live sessions"
        console.print(f"gRPC: {stack.grpc_target}, {live}")
    console.print(f"Data and logs: {stack.folder}. Ctrl-C stops it.", soft_wrap=True)
    if not stack.settings.training:
        console.print('It does not train; pip install "warpline[trainer]" for that.')


def make_settings(given: dict[str, Any]) -> Any:
    """Settings from the environment, with these on top.

    Raises:
        ConfigurationError: If they cannot be.
    """
    from service.settings import Settings

    try:
        return Settings(**given)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        sentence = str(first["msg"]).removeprefix("Value error, ")
        raise ConfigurationError(f"{name}: {sentence}" if name else sentence) from None


STACK = ("fastapi", "uvicorn", "sqlalchemy", "onnxruntime", "httpx", "grpc")


def require_stack() -> None:
    """Check that the faces of the embedded stack are installed.

    Raises:
        MissingExtraError: Says what to install.
    """
    from importlib.util import find_spec

    missing = [name for name in STACK if not find_spec(name)]
    if missing:
        raise MissingExtraError(
            f'The embedded stack needs {", ".join(missing)}: pip install "warpline[all-cpu]".'
        )


def _stop_on_signals() -> threading.Event:
    """An event that Ctrl-C, SIGTERM and a closed terminal set."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopped.set())
    return stopped
