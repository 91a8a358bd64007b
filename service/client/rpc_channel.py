"""What the gRPC clients tell grpcio: addresses, options, and who calls."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import grpc
import grpc.aio

from service.client.software import software
from service.errors import InvalidRequestError

SCHEMES = ("grpc", "grpcs")
DEFAULT_PORT = {"grpc": 80, "grpcs": 443}


@dataclass(frozen=True)
class Address:
    """Where a server is: `grpc://host:port`, or `grpcs://host:port` with TLS."""

    target: str
    is_secure: bool

    @classmethod
    def of(cls, url: str) -> "Address":
        """Read an address.

        Raises:
            InvalidRequestError: If it is none.
        """
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES or not parts.hostname or parts.path.strip("/"):
            raise InvalidRequestError(
                f"{url} is no address of a gRPC server; write grpc://HOST:PORT, or grpcs:// "
                "with TLS.",
                field="url",
            )
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return cls(f"{host}:{parts.port or DEFAULT_PORT[parts.scheme]}", parts.scheme == "grpcs")


def options() -> list[tuple[str, Any]]:
    """Options of a channel: notice dead networks, come back quickly."""
    return [
        ("grpc.primary_user_agent", software()),
        ("grpc.http2.max_frame_size", 2**20),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 1_000),
        ("grpc.max_reconnect_backoff_ms", 5_000),
        # Clients in one process do not share a connection, nor its flow-control window.
        ("grpc.use_local_subchannel_pool", 1),
    ]


def metadata(api_key: str | None) -> tuple[tuple[str, str], ...]:
    """What goes along with each call."""
    return () if api_key is None else (("authorization", f"Bearer {api_key}"),)


def channel(url: str) -> grpc.Channel:
    """A connection, made with the first call."""
    address = Address.of(url)
    if address.is_secure:
        return grpc.secure_channel(address.target, grpc.ssl_channel_credentials(), options())
    return grpc.insecure_channel(address.target, options())


def aio_channel(url: str) -> grpc.aio.Channel:
    """The same for asyncio; in a running loop."""
    address = Address.of(url)
    if address.is_secure:
        credentials = grpc.ssl_channel_credentials()
        return grpc.aio.secure_channel(address.target, credentials, options())
    return grpc.aio.insecure_channel(address.target, options())
