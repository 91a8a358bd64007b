"""Every peer at once: those that connect to us, and those that we connect to again and again."""

import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from service.errors import ConfigurationError, IgtlMessageError, IgtlStreamError
from service.igtl.connection import DEFAULT_LIMITS, POLL_S, Connection, Limits
from service.igtl.contents import StatusCode, pack_status
from service.igtl.outputs import STATUS_NAME
from service.igtl.tally import Tally
from service.igtl.wire import Message

Take = Callable[[Connection, Message], None]

FIRST_WAIT_S, LONGEST_WAIT_S, CONNECT_S = 0.5, 5.0, 3.0
# What is said last may take so long to peers that are slow to read it.
LAST_WORD_S = 5.0

STATUS_OF = {
    "igtl-checksum": StatusCode.CHECKSUM,
    "igtl-version": StatusCode.UNKNOWN_VERSION,
    "igtl-too-large": StatusCode.RESOURCES,
    "igtl-truncated": StatusCode.LOST,
}


def status_message(code: StatusCode, name: str, sentence: str) -> Message:
    """A STATUS of the bridge itself."""
    return Message("STATUS", pack_status(code, name, sentence), STATUS_NAME)


class Peers:
    """Takes messages from every peer and sends to all of them."""

    def __init__(self, take: Take, tally: Tally, limits: Limits = DEFAULT_LIMITS) -> None:
        self._take, self._tally, self._limits = take, tally, limits
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._connections: set[Connection] = set()
        self._threads: list[threading.Thread] = []

    def listen(self, port: int, host: str = "0.0.0.0") -> int:  # noqa: S104 - what --listen is for
        """Take peers at a port; 0 finds a free one. Tells which.

        Raises:
            ConfigurationError: If the port cannot be had.
        """
        try:
            server = socket.create_server((host, port))
        except OSError as error:
            raise ConfigurationError(
                f"Port {port} cannot be listened at: {error.strerror}. Choose another one."
            ) from None
        server.settimeout(POLL_S)
        self._start(lambda: self._accept(server), "igtl-listen")
        return int(server.getsockname()[1])

    def connect(self, host: str, port: int) -> None:
        """Connect to a peer, and again whenever the connection is lost."""
        self._start(lambda: self._keep_connected(host, port), "igtl-connect")

    def send(self, messages: Sequence[Message]) -> None:
        """Send to every peer."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.send(messages)

    def close(self, within_s: float) -> None:
        """Let the last messages out, then end every connection."""
        self._stop.set()
        with self._lock:
            connections = list(self._connections)
        until = time.monotonic() + within_s
        for connection in connections:
            connection.drain(max(0.0, until - time.monotonic()))
            connection.end()
        while threads := self._running():
            for thread in threads:
                thread.join()

    def _running(self) -> list[threading.Thread]:
        with self._lock:
            return [thread for thread in self._threads if thread.is_alive()]

    def _start(self, work: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=work, name=name, daemon=True)
        with self._lock:
            self._threads = [other for other in self._threads if other.is_alive()]
            self._threads.append(thread)
        thread.start()

    def _accept(self, server: socket.socket) -> None:
        with server:
            while not self._stop.is_set():
                with suppress(TimeoutError, ConnectionError):
                    self._admit(server.accept()[0])

    def _admit(self, sock: socket.socket) -> None:
        with self._lock:
            is_full = len(self._connections) >= self._limits.connections
        if is_full:
            self._tally.note("busy", "A peer was turned away: too many are connected.")
            sock.close()
            return
        self._start(lambda: self._serve(sock), "igtl-in")

    def _keep_connected(self, host: str, port: int) -> None:
        wait_s = FIRST_WAIT_S
        while not self._stop.is_set():
            try:
                sock = socket.create_connection((host, port), timeout=CONNECT_S)
            except OSError:
                self._tally.note("away", f"Nobody answers at {host}:{port}; trying again.")
            else:
                self._serve(sock)
                wait_s = FIRST_WAIT_S
            self._stop.wait(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def _serve(self, sock: socket.socket) -> None:
        """Read from a peer until the connection ends."""
        connection = Connection(sock, self._limits)
        with self._lock:
            self._connections.add(connection)
        self._tally.add(peers=1, connections=1)
        try:
            while not self._stop.is_set() and self._read_one(connection):
                pass
        except MemoryError:
            self._tally.fault("memory", "There is no room for a message; its connection is ended.")
        finally:
            with self._lock:
                self._connections.discard(connection)
            self._tally.add(peers=-1)
            connection.close()

    def _read_one(self, connection: Connection) -> bool:
        """Take a message; False if there can be no other."""
        try:
            message = connection.receive()
            if message is not None:
                self._take(connection, message)
        except IgtlMessageError as error:
            if self._stop.is_set():
                return False
            self._tally.wrong(error)
            code = STATUS_OF.get(error.slug, StatusCode.UNKNOWN_ERROR)
            connection.send([status_message(code, error.slug, error.detail)])
            if isinstance(error, IgtlStreamError):
                connection.drain(LAST_WORD_S)
            return not isinstance(error, IgtlStreamError)
        return message is not None
