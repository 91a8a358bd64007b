"""The gateway process: `python -m service.gateway.main`."""

import logging
import socket
import sys
from contextlib import closing
from threading import Event
from types import FrameType

import uvicorn

from service.gateway.app import create_app
from service.gateway.protocol import guarded
from service.gateway.reaping import Reaping
from service.gateway.rpc.serving import rpc_face
from service.rpc.allocator import keep_message_buffers
from service.rpc.process import exit_code
from service.rpc.server import address_of
from service.settings import Settings, settings
from service.stores.build import open_stores

__all__ = ["create_app", "main"]

KEEP_ALIVE_S = 20
BACKLOG = 512
# Running requests get this long when the process is told to stop; event streams end sooner.
GRACE_S = 10

logger = logging.getLogger(__name__)


def server_config(app: object, chosen: Settings) -> uvicorn.Config:
    """uvicorn with our time-outs and without its access log, which shows query strings."""
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=guarded(chosen.header_timeout_s, chosen.body_idle_timeout_s),
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=True,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        backlog=BACKLOG,
        forwarded_allow_ips="",
    )


class Server(uvicorn.Server):
    """uvicorn's server, which tells long answers when it is to stop."""

    def __init__(self, config: uvicorn.Config, stopping: Event) -> None:
        super().__init__(config)
        self._stopping = stopping

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._stopping.set()
        super().handle_exit(sig, frame)


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 takes a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((host, port))
    return bound


def serve(chosen: Settings) -> None:
    """Serve until told to stop."""
    bound = listen(chosen.host, chosen.port)
    known = chosen.model_copy(update={"port": bound.getsockname()[1]})
    with closing(open_stores(known)) as stores:
        app = create_app(known, stores)
        server = Server(server_config(app, known), app.state.desk.stopping)
        with Reaping(known, stores), rpc_face(app.state.desk):
            logger.info("listening on http://%s", address_of(known.host, known.port))
            server.run(sockets=[bound])


def main() -> int:
    """Run the gateway; the exit code is 2 when it is not set up correctly, 1 for an outage."""
    logging.basicConfig(
        stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s", level="INFO"
    )
    keep_message_buffers()
    return exit_code(_serve_as_set, logger)


def _serve_as_set() -> None:
    chosen = settings()
    logging.getLogger().setLevel(chosen.log_level)
    logging.getLogger("alembic").setLevel("WARNING")
    serve(chosen)


if __name__ == "__main__":
    raise SystemExit(main())
