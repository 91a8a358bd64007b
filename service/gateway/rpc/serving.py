"""The gRPC face while it serves: a thread of the gateway with an event loop of its own.

So a stream of large uploads does not hold up the REST API's loop, nor the other way round.
"""

import asyncio
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from service.gateway.desk import Desk
from service.gateway.rpc import live as live_service
from service.gateway.rpc.live import LiveForward
from service.gateway.rpc.quick_chunks import quick_handlers
from service.gateway.rpc.servicer import Warpline
from service.pb import warpline_pb2 as pb
from service.pb.warpline_pb2_grpc import add_WarplineServiceServicer_to_server
from service.rpc.door import Door
from service.rpc.metrics import CallMetrics
from service.rpc.server import address_of, bind, describe, make_server, stop

SERVICE = pb.DESCRIPTOR.services_by_name["WarplineService"].full_name
# Calls that are under way get this long when the process is told to stop.
GRACE_S = 10.0
LOOK_EVERY_S = 0.1
START_WITHIN_S = 30.0

logger = logging.getLogger(__name__)


class RpcFace:
    """Serves a desk's calls while the block lasts, or until `desk.stopping` is set."""

    def __init__(self, desk: Desk, port: int, *, grace_s: float = GRACE_S) -> None:
        """Make it; port 0 takes a free one."""
        self.port = port
        self._desk = desk
        self._grace_s = grace_s
        self._started = threading.Event()
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="grpc", daemon=True)

    def __enter__(self) -> "RpcFace":
        """Start to serve.

        Raises:
            ConfigurationError: If the port is taken or the certificate cannot be used.
        """
        self._thread.start()
        self._started.wait(START_WITHIN_S)
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(self._grace_s + START_WITHIN_S)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._failure = error
            logger.error("gRPC: unexpected %s", type(error).__name__)
        finally:
            self._started.set()

    async def _serve(self) -> None:
        desk = self._desk
        server = make_server(Door(desk.keys, desk.rates, CallMetrics(desk.metrics.registry)))
        servicer = Warpline(desk)
        add_WarplineServiceServicer_to_server(servicer, server)
        server.add_registered_method_handlers(SERVICE, quick_handlers(servicer))
        live = LiveForward(desk.settings.live_address)
        server.add_generic_rpc_handlers((live.handler(),))
        health = await describe(server, [SERVICE, live_service.SERVICE])
        self.port = bind(server, address_of(desk.settings.host, self.port), desk.settings)
        await server.start()
        self._started.set()
        logger.info("gRPC on %s", address_of(desk.settings.host, self.port))
        while not (self._stop.is_set() or desk.stopping.is_set()):
            await asyncio.sleep(LOOK_EVERY_S)
        await health.enter_graceful_shutdown()
        await stop(server, self._grace_s)
        await live.close()


@contextmanager
def rpc_face(desk: Desk) -> Iterator[RpcFace | None]:
    """The gRPC face, if the settings ask for one."""
    if not desk.settings.grpc_port:
        yield None
        return
    with RpcFace(desk, desk.settings.grpc_port) as face:
        yield face
