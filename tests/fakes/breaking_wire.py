"""A wire between a client and a server that breaks after so many bytes."""

import socket
import threading
from contextlib import suppress


class BreakingWire:
    """Carries TCP connections to a port; each breaks once it has carried its allowance upwards.

    `allowances` are taken one for each connection, in bytes from the client (`up`) or from the
    server (`down`); None, or an empty list, means that it holds. `target` is the port that the next
    connection goes to.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self.up: list[int | None] = []
        self.down: list[int | None] = []
        self.connections = 0
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.is_closed = False
        self._start(self._accept)

    def _start(self, run, *arguments) -> None:
        threading.Thread(target=run, args=arguments, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.is_closed:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            self.connections += 1
            self._open |= {client, server}
            for pair, allowances in (((client, server), self.up), ((server, client), self.down)):
                self._start(self._carry, *pair, allowances.pop(0) if allowances else None)

    def _carry(self, source: socket.socket, target: socket.socket, allowance: int | None) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if allowance is not None:
                    data = data[:allowance]
                    allowance -= len(data)
                target.sendall(data)
                if allowance == 0:
                    break
        for end in (source, target):
            self._cut(end)

    def _cut(self, end: socket.socket) -> None:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
        self._open.discard(end)

    def cut(self) -> None:
        """Break every connection that is open."""
        for end in list(self._open):
            self._cut(end)

    def close(self) -> None:
        """Take no more connections, and break those that are open."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
