"""What machines that watch ask over HTTP: /healthz, /readyz, /metrics."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from service.errors import ConfigurationError

TEXT = "text/plain; charset=utf-8"
METRICS = "text/plain; version=0.0.4; charset=utf-8"
SLOWEST_S = 5.0
LOOK_EVERY_S = 0.05  # whether to stop

Page = Callable[[], tuple[int, str, bytes]]


class Probes:
    """A small HTTP server on a thread of its own, so that it answers whatever the engine does."""

    def __init__(
        self, host: str, port: int, is_ready: Callable[[], bool], exposition: Callable[[], bytes]
    ) -> None:
        """Listen.

        Args:
            host: Where.
            port: Where; 0 takes a free one.
            is_ready: Whether sessions are taken.
            exposition: The page for Prometheus.

        Raises:
            ConfigurationError: If the address is taken.
        """
        pages: dict[str, Page] = {
            "/healthz": lambda: (200, TEXT, b"ok\n"),
            "/readyz": lambda: (200, TEXT, b"ready\n") if is_ready() else (503, TEXT, b"no\n"),
            "/metrics": lambda: (200, METRICS, exposition()),
        }
        try:
            self._server = ThreadingHTTPServer((host, port), _handler(pages))
        except OSError as error:
            raise ConfigurationError(
                f"HTTP cannot listen on port {port} ({error.strerror}). Choose another one with "
                "WARPLINE_LIVE_HTTP_PORT."
            ) from None
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(LOOK_EVERY_S,), name="probes", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(pages: dict[str, Page]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = SLOWEST_S
        server_version, sys_version = "warpline", ""

        def do_GET(self) -> None:
            page = pages.get(self.path.partition("?")[0])
            status, media_type, body = page() if page else (404, TEXT, b"not found\n")
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            """Probes come every few seconds; nobody reads that."""

    return Handler
