"""uvicorn's HTTP protocol with what it lacks: an end to slow, endless and malformed clients.

uvicorn 0.54 waits for ever for a client that does not finish its headers or does not read its
answer, and its parser takes heads of any size. All are ended here, on the connection, before the
app is asked.
"""

from asyncio import TimerHandle, Transport

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.errors import (
    HeadersTooLargeError,
    RequestTimeoutError,
    ValidationError,
    WarplineError,
)
from service.gateway.problems import MEDIA_TYPE, body_of

MOST_HEAD_BYTES = 16 * 1024
MOST_BUFFERED_BYTES = 2**20  # of a body, a connection


def guarded(header_timeout_s: float, read_timeout_s: float) -> type[HttpToolsProtocol]:
    """The protocol class for these time-outs; uvicorn makes one instance a connection.

    Args:
        header_timeout_s: For a client to send a request's head.
        read_timeout_s: For a client to read on when our send buffer is full.
    """

    class Guarded(GuardedProtocol):
        head_timeout_s = header_timeout_s
        drain_timeout_s = read_timeout_s

    return Guarded


class GuardedProtocol(HttpToolsProtocol):
    """Closes a connection whose request head comes too slowly or is too large."""

    head_timeout_s = 10.0
    drain_timeout_s = 30.0
    _head_timer: TimerHandle | None = None
    _drain_timer: TimerHandle | None = None
    _head_bytes = 0
    _in_head = False

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    # --- asyncio's calls ---

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        self._stop_drain_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        was_in_head = self._in_head
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head:
            # Bytes of one read may end a body and begin a head; they count in full, which only
            # makes the limit a little stricter.
            self._head_bytes = len(data) + (self._head_bytes if was_in_head else 0)
            if self._head_bytes > MOST_HEAD_BYTES:
                self._refuse(HeadersTooLargeError())
        elif not self._is_answering:
            self._expect_head()  # line ends between requests have stopped the idle time-out

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._drain_timer is None:
            self._drain_timer = self.loop.call_later(self.drain_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        self._stop_drain_timer()
        super().resume_writing()

    # --- the parser's calls ---

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_head_timer()
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > MOST_HEAD_BYTES:
            self._refuse(HeadersTooLargeError())
            return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """As in uvicorn, which stops reading at 64 KiB: too little to keep a disk busy."""
        if self.cycle.response_complete:
            return
        self.cycle.body += body
        if len(self.cycle.body) > MOST_BUFFERED_BYTES:
            self.flow.pause_reading()
        self.cycle.message_event.set()

    def send_400_response(self, msg: str) -> None:
        """Answer a request that is no HTTP with a problem document as well."""
        del msg
        self._refuse(ValidationError("The request is not well-formed HTTP."), 400)

    # --- ours ---

    def _expect_head(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_timeout_s, self._too_slow)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_drain_timer(self) -> None:
        if self._drain_timer is not None:
            self._drain_timer.cancel()
            self._drain_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if self.transport.is_closing() or not self._in_head:
            return
        if self._is_answering:  # the client waits for the answer before; that is no fault
            self._head_timer = self.loop.call_later(self.head_timeout_s, self._too_slow)
            return
        self._refuse(RequestTimeoutError("The request's headers did not arrive in time."))

    def _refuse(self, error: WarplineError, status: int | None = None) -> None:
        self._stop_head_timer()
        if self.transport.is_closing():
            return
        if self._is_answering:  # a second answer must not get into the first
            self.transport.abort()
            return
        body = body_of(error, None)
        head = f"content-type: {MEDIA_TYPE}\r\nconnection: close\r\n"
        head += f"content-length: {len(body)}\r\n\r\n"
        self.transport.write(STATUS_LINE[status or error.http_status] + head.encode() + body)
        self.transport.close()
