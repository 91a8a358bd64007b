"""uvicorn's HTTP protocol with what it lacks: an end to slow, endless and malformed request heads.

uvicorn 0.54 waits for ever for a client that does not finish its headers, and its parser takes
heads of any size. Both are ended here, on the connection, before the app is asked.
"""

from asyncio import TimerHandle, Transport
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.errors import (
    HeadersTooLargeError,
    RequestTimeoutError,
    ValidationError,
    WarplineError,
)
from service.gateway.problems import MEDIA_TYPE, body_of

MOST_HEAD_BYTES = 16 * 1024


def guarded(header_timeout_s: float) -> type[HttpToolsProtocol]:
    """The protocol class for this time-out; uvicorn makes one instance a connection."""

    class Guarded(GuardedProtocol):
        timeout_s = header_timeout_s

    return Guarded


class GuardedProtocol(HttpToolsProtocol):
    """Closes a connection whose request head comes too slowly or is too large."""

    timeout_s = 10.0
    _timer: TimerHandle | None = None
    _head_bytes = 0
    _in_head = False

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        was_in_head = self._in_head
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            # Bytes of one read may end a body and begin a head; they count in full, which only
            # makes the limit a little stricter.
            self._head_bytes = len(data) + (self._head_bytes if was_in_head else 0)
            if self._head_bytes > MOST_HEAD_BYTES:
                self._refuse(HeadersTooLargeError())

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_timer()
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > MOST_HEAD_BYTES:
            self._refuse(HeadersTooLargeError())
            return
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer a request that is no HTTP with a problem document as well."""
        del msg
        self._refuse(ValidationError("The request is not well-formed HTTP."), 400)

    def _expect_head(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        if self._timer is None:
            self._timer = self.loop.call_later(self.timeout_s, self._too_slow)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        if self._in_head and not self.transport.is_closing():
            self._refuse(RequestTimeoutError("The request's headers did not arrive in time."))

    def _refuse(self, error: WarplineError, status: int | None = None) -> None:
        self._stop_timer()
        if self.transport.is_closing():
            return
        body = body_of(error, None)
        head: list[Any] = [
            STATUS_LINE[status or error.http_status],
            f"content-type: {MEDIA_TYPE}\r\n".encode(),
            b"connection: close\r\n",
            f"content-length: {len(body)}\r\n\r\n".encode(),
        ]
        self.transport.write(b"".join([*head, body]))
        self.transport.close()
