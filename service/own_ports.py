"""Ports of this machine: free ones, taken ones, and whether a gateway answers at one."""

import http.client
import socket
from contextlib import ExitStack

from service.errors import ConfigurationError

ANY_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - how to reach a server at them


def free_ports(host: str, count: int) -> list[int]:
    """Different ports that nobody listens on just now."""
    with ExitStack() as probes:
        sockets = [probes.enter_context(_socket(host)) for _ in range(count)]
        for probe in sockets:
            probe.bind((host, 0))
        return [int(probe.getsockname()[1]) for probe in sockets]


def is_free(host: str, port: int) -> bool:
    """Whether one could listen there."""
    try:
        require_free(host, port, "--port")
    except ConfigurationError:
        return False
    return True


def require_free(host: str, port: int, option: str) -> None:
    """Raises ConfigurationError if one cannot listen there; `option` is what chooses the port."""
    with _socket(host) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise ConfigurationError(
                f"Cannot listen on {host}, port {port} ({error}); choose another with {option}."
            ) from error


def is_ready(host: str, port: int) -> bool:
    """Whether `/readyz` answers 200."""
    connection = http.client.HTTPConnection(reachable(host), port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def reachable(host: str) -> str:
    """How a client on this machine reaches a server that listens there."""
    return ANY_HOST.get(host, host)


def _socket(host: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
