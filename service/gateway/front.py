"""The front door: what every request passes before its route, and every answer after it.

Identity, rate and body limits come before a byte of the body is read. The log line names the
route's template, never the path or the query as sent, which may hold a patient's name.
"""

import asyncio
import logging
import time
import traceback
import uuid
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import InternalError, WarplineError
from service.gateway.auth import owner_of
from service.gateway.limits import (
    JSON_BODY_BYTES,
    MIB,
    BodyGuard,
    announced_bytes,
    too_large,
)
from service.gateway.loopback import OwnPages
from service.gateway.metrics import Metrics
from service.gateway.problems import render
from service.keys import Keys, Rates
from service.settings import Settings

PUBLIC = frozenset({"/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"})
SIGNED = "/objects/"  # proves itself by its signature
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
# A client that still sends when the answer is out gets this much time to notice it; closing at once
# would make its system throw the answer away (RFC 9112, 9.6).
LINGER_S = 3.0
LINGER_BYTES = 32 * MIB

logger = logging.getLogger(__name__)
access = logging.getLogger("warpline.access")


def route_path(scope: Scope) -> str:
    """The path without the version prefix, under which each route is reachable too."""
    path = str(scope["path"])
    return path.removeprefix("/v1") or "/" if path.startswith("/v1/") or path == "/v1" else path


@dataclass
class Exchange:
    """One request and its answer, while they last."""

    scope: Scope
    send: Send
    guard: BodyGuard
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    began: float = field(default_factory=time.monotonic)
    status: int = 0

    @property
    def has_body(self) -> bool:
        headers = Headers(scope=self.scope)
        return "transfer-encoding" in headers or (announced_bytes(self.scope) or 0) > 0

    @property
    def is_cut_short(self) -> bool:
        """Whether the answer goes out before the request is in."""
        return self.has_body and not self.guard.complete

    async def forward(self, message: Message) -> None:
        """Send one message of the answer on, with the headers that all answers carry."""
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
            headers = MutableHeaders(raw=message.setdefault("headers", []))
            headers["X-Request-Id"] = self.request_id
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            if self.is_cut_short:
                headers["Connection"] = "close"
        elif message["type"] == "http.response.body" and not message.get("more_body"):
            await self._finish(message)
            return
        await self.send(message)

    async def _finish(self, message: Message) -> None:
        if self.is_cut_short:
            await self.send({**message, "more_body": True})
            await self._linger()
            message = {"type": "http.response.body", "body": b""}
        await self.send(message)

    async def _linger(self) -> None:
        expects = Headers(scope=self.scope).get("expect", "").lower() == "100-continue"
        if expects and self.guard.received == 0:
            return
        try:
            async with asyncio.timeout(LINGER_S):
                dropped = 0
                while dropped < LINGER_BYTES:
                    message = await self.guard.receive()
                    dropped += len(message.get("body", b""))
                    if message["type"] == "http.disconnect" or not message.get("more_body"):
                        return
        except TimeoutError:
            return


@dataclass(frozen=True)
class FrontDoor:
    """The ASGI middleware around all routes."""

    app: ASGIApp
    settings: Settings
    keys: Keys
    rates: Rates
    metrics: Metrics
    pages: OwnPages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = self.body_limit(scope)
        guard = BodyGuard(receive, limit, self.settings.body_idle_timeout_s)
        exchange = Exchange(scope, send, guard)
        scope.setdefault("state", {})["request_id"] = exchange.request_id
        try:
            await self._admit_and_answer(exchange)
        finally:
            self._record(exchange)

    def body_limit(self, scope: Scope) -> int:
        """Most bytes that a request may bring, by its address."""
        path = route_path(scope)
        if path.startswith("/uploads/"):
            return self.settings.max_upload_mib * MIB
        content_type = Headers(scope=scope).get("content-type", "")
        if content_type.lower().startswith("multipart/form-data"):
            return self.settings.max_body_mib * MIB
        return JSON_BODY_BYTES

    async def _admit_and_answer(self, exchange: Exchange) -> None:
        try:
            self._admit(exchange)
            await self.app(exchange.scope, exchange.guard, exchange.forward)
        except ClientDisconnect:
            exchange.status = exchange.status or 499
        except Exception as error:
            if not isinstance(error, WarplineError):
                _log_defect(error, exchange.request_id)
                error = InternalError()
            if exchange.status:  # the answer has begun; breaking off is all that is left
                raise
            response = render(error, exchange.request_id)
            await response(exchange.scope, exchange.guard, exchange.forward)

    def _admit(self, exchange: Exchange) -> None:
        path = route_path(exchange.scope)
        if path not in PUBLIC and not path.startswith(SIGNED):
            headers = Headers(scope=exchange.scope)
            owner = owner_of(self.keys, headers)
            if not self.keys.digests:
                self.pages.require(headers)
            self.rates.take(owner)
            exchange.scope["state"]["owner"] = owner
        announced = announced_bytes(exchange.scope)
        if announced is not None and announced > exchange.guard.limit_bytes:
            raise too_large(exchange.guard.limit_bytes)

    def _record(self, exchange: Exchange) -> None:
        seconds = time.monotonic() - exchange.began
        route = getattr(exchange.scope.get("route"), "path", "unmatched")
        method = str(exchange.scope["method"])
        self.metrics.count(method, route, exchange.status, seconds)
        access.info(
            "%s %s %d %.1f ms %s",
            method if method.isalpha() else "?",
            route,
            exchange.status,
            seconds * 1000,
            exchange.request_id,
        )


def _log_defect(error: Exception, request_id: str) -> None:
    """Log where it happened, not what the exception says: its text may quote a caller's file."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    where = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))
    logger.error("unexpected %s at %s, request %s", type(error).__name__, where, request_id)
