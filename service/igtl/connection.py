"""One connection to a peer: messages in, messages out, each side on a thread of its own."""

import select
import socket
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from service.errors import IgtlTruncatedError
from service.igtl.wire import HEADER, Header, Message, open_body, pack, parse_header, require_size

POLL_S = 0.2
SCRAP_BYTES = 1 << 16
QUERIES = ("GET_", "STT_", "STP_")
# The longest body of a query that is looked at.
QUERY_BYTES = 1 << 16


@dataclass(frozen=True)
class Limits:
    """What a peer may do."""

    most_bytes: int = 1 << 29
    # Silence in the middle of a message, sent or received. It is counted in looks, not by a clock:
    # a process that was held up itself finds what has come meanwhile when it looks again.
    stall_s: float = 10.0
    connections: int = 8
    waiting: int = 4  # groups of messages for a peer that reads slowly; older ones are dropped


DEFAULT_LIMITS = Limits()


class Connection:
    """A socket that speaks OpenIGTLink."""

    def __init__(self, sock: socket.socket, limits: Limits) -> None:
        sock.setblocking(False)
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._socket, self._limits = sock, limits
        self._is_closed = threading.Event()
        self._queue: deque[Sequence[Message]] = deque()
        self._changed = threading.Condition()
        self._version = 1
        self.muted: set[str] = set()  # kinds that the peer asked to stop
        self.dropped = 0  # groups of messages that were too late for this peer
        self._writer = threading.Thread(target=self._write, name="igtl-out", daemon=True)
        self._writer.start()

    def receive(self) -> Message | None:
        """The next message; nothing once the connection has ended between two.

        Bodies of kinds that nobody here reads are passed over and come empty.

        Raises:
            IgtlMessageError: If the message is bad. Where it is an IgtlStreamError nothing can be
                read after it.
        """
        head = bytearray(HEADER.size)
        if not self._fill(memoryview(head), may_end=True):
            return None
        header = parse_header(bytes(head))
        require_size(header, self._limits.most_bytes)
        if not _is_read(header):
            self._pass_over(header.body_bytes)
            return Message(header.kind, stamp=header.stamp, version=header.version)
        body = bytearray(header.body_bytes)
        self._fill(memoryview(body))
        message = open_body(header, memoryview(body))
        if message.version > 1:
            self._version = 2
        return message

    def send(self, messages: Sequence[Message]) -> None:
        """Have messages sent. They replace older groups where the peer does not keep up."""
        with self._changed:
            self._queue.append(messages)
            while len(self._queue) > self._limits.waiting:
                del self._queue[1]  # the first one is being sent
                self.dropped += 1
            self._changed.notify()

    def end(self) -> None:
        """Have both sides stop; what is being sent is cut off."""
        self._is_closed.set()
        with self._changed:
            self._changed.notify_all()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the connection and give the socket back: for the thread that receives."""
        self.end()
        self._writer.join()
        self._socket.close()

    def drain(self, within_s: float) -> None:
        """Wait until what was handed to `send` is out, or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: not self._queue or self._is_closed.is_set(), within_s)

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._is_closed.is_set())
                if self._is_closed.is_set():
                    return
                group = self._queue[0]
            try:
                for message in group:
                    if message.kind not in self.muted:
                        self._send_all(memoryview(pack(message, self._version)))
            except OSError:
                self._is_closed.set()  # the reading side finds out and says so
            with self._changed:
                if self._queue and self._queue[0] is group:
                    self._queue.popleft()
                self._changed.notify_all()

    def _send_all(self, data: memoryview) -> None:
        silent_s = 0.0
        while data:
            if self._is_closed.is_set():
                raise ConnectionError
            if select.select((), (self._socket,), (), POLL_S)[1]:
                data, silent_s = data[self._socket.send(data) :], 0.0
            elif (silent_s := silent_s + POLL_S) > self._limits.stall_s:
                raise TimeoutError

    def _fill(self, place: memoryview, *, may_end: bool = False) -> bool:
        """Receive until the place is full; False if the peer ended before the first byte."""
        filled, silent_s = 0, 0.0
        while filled < len(place):
            if self._is_readable():
                count = self._receive_into(place[filled:])
                if count == 0:
                    if may_end and filled == 0:
                        return False
                    raise IgtlTruncatedError("The peer went away in the middle of a message.")
                filled, silent_s = filled + count, 0.0
            elif self._is_closed.is_set():
                return self._closed(may_end=may_end and filled == 0)
            elif filled or not may_end:
                silent_s += POLL_S
                if silent_s <= self._limits.stall_s:
                    continue
                raise IgtlTruncatedError(
                    f"The peer fell silent in the middle of a message, for over "
                    f"{self._limits.stall_s:.0f} s."
                )
        return True

    def _closed(self, *, may_end: bool) -> bool:
        if may_end:
            return False
        raise IgtlTruncatedError("The connection was closed in the middle of a message.")

    def _is_readable(self) -> bool:
        if self._is_closed.is_set():
            return False
        return bool(select.select((self._socket,), (), (), POLL_S)[0])

    def _receive_into(self, place: memoryview) -> int:
        try:
            return self._socket.recv_into(place)
        except BlockingIOError:
            return self._receive_into(place) if self._is_readable() else 0
        except OSError:
            return 0

    def _pass_over(self, size: int) -> None:
        scrap = memoryview(bytearray(min(size, SCRAP_BYTES)))
        while size > 0:
            part = scrap[: min(size, SCRAP_BYTES)]
            self._fill(part)
            size -= len(part)


def _is_read(header: Header) -> bool:
    is_query = header.kind.startswith(QUERIES) and header.body_bytes <= QUERY_BYTES
    return header.kind == "IMAGE" or is_query
