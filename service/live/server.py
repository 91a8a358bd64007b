"""The live process from start to stop: engine, sessions, gRPC and probes."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from service.audit.log import AuditLog
from service.errors import ConfigurationError, LiveFullError, LiveStoppingError
from service.keys import Keys, Rates
from service.live.audit import Audit
from service.live.connection import Connection
from service.live.desk import Desk
from service.live.engines import Engines, LoadEngines
from service.live.metrics import LiveMetrics
from service.live.opening import LiveLimits
from service.live.probes import Probes
from service.live.sessions import Sessions
from service.live.turns import Turns
from service.pb import warpline_pb2 as pb
from service.rpc.calls import current_call
from service.rpc.door import Door
from service.rpc.metrics import CallMetrics
from service.rpc.server import address_of, bind, describe, make_server
from service.rpc.voxel_chunks import serialized
from service.settings import Settings

SERVICE = pb.DESCRIPTOR.services_by_name["LiveService"].full_name
EXPIRE_EVERY_S = 1.0
# Answers that are ready get this long to be sent when the process is told to stop.
FLUSH_S = 3.0
GRACE_S = 3.0

logger = logging.getLogger(__name__)


class LiveServicer:
    """Hands each call to a connection."""

    def __init__(self, desk: Desk, keys: Keys, most: int) -> None:
        """Serve from this desk those whom these keys know, at most so many at a time."""
        self._desk = desk
        self._keys = keys
        self._most = most
        self._connections = 0

    def handler(self) -> grpc.GenericRpcHandler:
        """The service's methods. Answers may come serialized, which the generated code cannot."""
        live = grpc.stream_stream_rpc_method_handler(
            self.live,
            request_deserializer=pb.LiveRequest.FromString,
            response_serializer=serialized,
        )
        return grpc.method_handlers_generic_handler(SERVICE, {"Live": live})

    async def live(self, requests: AsyncIterator[pb.LiveRequest], context: Any) -> None:
        """A session, see the proto."""
        if self._connections >= self._most:
            raise LiveFullError("There are too many connections. Try again later.")
        call = current_call()
        connection = Connection(
            context,
            self._desk,
            owner=call.owner or "",
            still_known=lambda: _require_known(self._keys, call.key),
        )
        self._connections += 1
        try:
            await connection.serve(requests)
        finally:
            self._connections -= 1


def _require_known(keys: Keys, key: str) -> None:
    keys.owner(key)


class LiveServer:
    """Everything of one process. Made on the event loop that serves."""

    def __init__(self, config: Settings, load: LoadEngines = Engines) -> None:
        """Nothing runs yet.

        Args:
            config: All that can be chosen.
            load: Makes what makes trackers, on the engine's thread.
        """
        self._config = config
        self._load = load
        self._turns = Turns()
        self._stopping = asyncio.Event()
        self._metrics = LiveMetrics()
        self._audit = Audit(AuditLog.of(config))
        self._is_ready = False
        self.port = self.http_port = 0

    async def start(self) -> None:
        """Load, warm up, listen; the ports are known afterwards, and the probes' before.

        Raises:
            ConfigurationError: If an address is taken or the keys are not set up correctly.
            ModelNotFoundError: If the model that is to be warmed up is not there.
        """
        config = self._config
        self._probes = Probes(
            config.live_host,
            config.live_http_port,
            lambda: self._is_ready and not self._stopping.is_set(),
            self._metrics.exposition,
        )
        self.http_port = self._probes.port
        engines = await self._turns.run(lambda: self._load(config))
        await self._turns.run(lambda: engines.warm_up(config.live_model))
        keys = Keys.of(config)
        self.sessions = Sessions(config, engines, self._metrics, self._audit)
        desk = Desk(
            limits=LiveLimits.of(config),
            sessions=self.sessions,
            turns=self._turns,
            ttl_s=config.live_ttl_s,
            idle_timeout_s=config.live_idle_timeout_s,
            load_model=engines.load,
            is_stopping=self._stopping,
        )
        calls = CallMetrics(self._metrics.registry)
        self._server = make_server(Door(keys, Rates(config.requests_per_minute), calls))
        servicer = LiveServicer(desk, keys, config.live_max_connections)
        self._server.add_generic_rpc_handlers((servicer.handler(),))
        self._health = await describe(self._server, [SERVICE])
        self.port = self._bind()
        self._turns.start()
        self._expiring = asyncio.create_task(self._expire())
        await self._server.start()
        self._is_ready = True

    def _bind(self) -> int:
        """Without TLS: whoever needs it comes through the gateway."""
        try:
            address = address_of(self._config.live_host, self._config.live_port)
            return bind(self._server, address)
        except ConfigurationError as error:
            raise ConfigurationError(
                error.detail.replace("WARPLINE_GRPC_PORT", "WARPLINE_LIVE_PORT")
            ) from None

    async def stop(self) -> None:
        """Finish the frame that is being registered, tell every session, end."""
        self._stopping.set()
        for name in ("", SERVICE):
            answer = health_pb2.HealthCheckResponse.NOT_SERVING
            await self._health.set(name, answer)
        await self._turns.stop()
        await self._flush()
        for session in self.sessions.all():
            session.end(LiveStoppingError(retry_after_s=1.0))
        await self._server.stop(GRACE_S)
        self._expiring.cancel()
        self._probes.close()
        self._audit.close()

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(EXPIRE_EVERY_S)
            self.sessions.expire()

    async def _flush(self) -> None:
        """Until answers that are there have been handed on, but not for long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                while any(s.listener and s.answers.has_unsent for s in self.sessions.all()):
                    await asyncio.sleep(0.02)
