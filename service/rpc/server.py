"""A gRPC server as every face of ours has it: limits, health, reflection, TLS where wanted."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from service.errors import ConfigurationError
from service.rpc.door import Door
from service.settings import Settings

MIB = 2**20
SETTLE_S = 2.0
MESSAGE_BYTES = 4 * MIB
# Calls of all clients together; one that comes when as many are open gets RESOURCE_EXHAUSTED.
MOST_CALLS = 4096
OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.http2.max_frame_size", MIB),  # a chunk in a few frames instead of 64
    ("grpc.max_concurrent_streams", 256),  # of one connection
    ("grpc.absolute_max_metadata_size", 16 * 1024),
    ("grpc.so_reuseport", 0),  # a port that is taken is an error, not a second server
    # A peer that is gone without a word is noticed; one that pings all the time is sent away.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 3),
    ("grpc.max_connection_idle_ms", 30 * 60_000),
)


def make_server(door: Door) -> grpc.aio.Server:
    """A server with our limits; made on the event loop that will serve."""
    return grpc.aio.server(
        interceptors=(door,), options=list(OPTIONS), maximum_concurrent_rpcs=MOST_CALLS
    )


async def describe(server: grpc.aio.Server, services: Sequence[str]) -> health.aio.HealthServicer:
    """Add health and reflection for these services; all of them are said to be serving."""
    watched = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(watched, server)
    for name in ("", *services):
        await watched.set(name, health_pb2.HealthCheckResponse.SERVING)
    names = (*services, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    return watched


def bind(server: grpc.aio.Server, address: str, settings: Settings | None = None) -> int:
    """Listen at HOST:PORT or unix:PATH, with TLS if there are settings that name a certificate.

    Returns:
        The port; 1 for a unix socket.

    Raises:
        ConfigurationError: If the address is taken or the certificate cannot be used.
    """
    try:
        if settings is None or settings.grpc_tls_cert is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, _credentials(settings))
    except RuntimeError:
        raise ConfigurationError(
            f"gRPC cannot listen at {address}: the address is taken, or certificate and key do "
            "not fit. Choose another port with WARPLINE_GRPC_PORT."
        ) from None


def _credentials(settings: Settings) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(_bytes_of(settings.grpc_tls_key), _bytes_of(settings.grpc_tls_cert))]
    )


def _bytes_of(path: Path | None) -> bytes:
    try:
        return path.read_bytes() if path is not None else b""
    except OSError as error:
        raise ConfigurationError(
            f"The TLS file {path} cannot be read ({error.strerror}); see WARPLINE_GRPC_TLS_CERT "
            "and WARPLINE_GRPC_TLS_KEY."
        ) from None


async def stop(server: grpc.aio.Server, grace_s: float) -> None:
    """Take no more calls, give those that are open some time, then cancel them and see them end.

    grpcio does not wait for the tasks of calls that it cancels; the loop's end would cancel them a
    second time, amid their own ending.
    """
    await server.stop(grace_s)
    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others, timeout=SETTLE_S)


def address_of(host: str, port: int) -> str:
    """HOST:PORT as gRPC reads it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
