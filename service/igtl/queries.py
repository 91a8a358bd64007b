"""Answers to GET_, STT_ and STP_ messages.

Everything is sent without being asked for; a peer may ask for the latest once more, and may stop
and start a kind. The names of longer kinds are cut to what is left of twelve bytes, by some to
GET_TRANS.

Source: OpenIGTLink, Documents/Protocol/query.md.
"""

import threading
from collections.abc import Iterable

from service.igtl.connection import Connection
from service.igtl.contents import StatusCode, pack_types
from service.igtl.peers import status_message
from service.igtl.wire import Message

# What can be sent, and so asked for.
SENT = ("IMAGE", "TRANSFORM", "POINT", "STRING", "STATUS", "CAPABILITY")
# What is taken.
TAKEN = ("IMAGE", *(f"GET_{kind}" for kind in SENT), "STT_IMAGE", "STP_IMAGE")
SUCCESS, ERROR = b"\0", b"\1"


class Latest:
    """The newest message of every device name, and what is said to peers that ask."""

    def __init__(self) -> None:
        self._messages: dict[str, Message] = {}
        self._lock = threading.Lock()

    def keep(self, messages: Iterable[Message]) -> None:
        """Remember messages that were sent."""
        with self._lock:
            self._messages.update((message.device, message) for message in messages)

    def answer(self, connection: Connection, query: Message) -> None:
        """Answer a query."""
        prefix, _, rest = query.kind.partition("_")
        kind = next((kind for kind in SENT if len(rest) > 3 and kind.startswith(rest)), None)
        if prefix == "GET":
            connection.send(self._got(kind, query))
            return
        if kind is not None:
            (connection.muted.add if prefix == "STP" else connection.muted.discard)(kind)
        result = ERROR if kind is None else SUCCESS
        connection.send([Message(f"RTS_{rest}"[:12], result, query.device)])

    def _got(self, kind: str | None, query: Message) -> list[Message]:
        if kind is None:
            return [status_message(StatusCode.UNKNOWN_INSTRUCTION, "unknown", "Not offered here.")]
        if kind == "CAPABILITY":
            return [Message(kind, pack_types(TAKEN), query.device)]
        with self._lock:
            found = [m for m in self._messages.values() if m.kind == kind]
        named = [m for m in found if query.device in ("", m.device)]
        if not named and kind == "STATUS":
            return [status_message(StatusCode.NOT_READY, "waiting", "No frame was answered yet.")]
        return named or [Message(kind, b"", query.device)]
