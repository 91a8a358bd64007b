"""A connection is patient with a peer, whatever holds up its own process."""

import socket
import time
from collections.abc import Iterator

import pytest

from service.errors import IgtlTruncatedError
from service.igtl import connection as connection_module
from service.igtl.connection import Connection, Limits
from service.igtl.wire import pack
from tests.fakes.igtl_bridge import image

STALL_S = 0.3


@pytest.fixture
def ends() -> Iterator[tuple[Connection, socket.socket]]:
    """Our end and the peer's."""
    ours, theirs = socket.socketpair()
    made = Connection(ours, Limits(stall_s=STALL_S))
    yield made, theirs
    made.close()
    theirs.close()


def test_what_came_while_the_process_was_held_up_is_read(
    ends: tuple[Connection, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    connection, peer = ends
    sent, select, looks = pack(image()), connection_module.select.select, []

    def held_up_after(*given: object) -> object:
        """The rest of the message comes after the look that found nothing, and before the next."""
        found = select(*given)
        if not found[0]:
            looks.append(found)
            peer.sendall(sent[20:])
            time.sleep(2 * STALL_S)
        return found

    monkeypatch.setattr(connection_module.select, "select", held_up_after)
    peer.sendall(sent[:20])
    message = connection.receive()
    assert message is not None
    assert message.kind == "IMAGE"
    assert len(looks) == 1


def test_silence_in_the_middle_of_a_message_is_told(
    ends: tuple[Connection, socket.socket],
) -> None:
    connection, peer = ends
    peer.sendall(pack(image())[:20])
    with pytest.raises(IgtlTruncatedError, match="fell silent"):
        connection.receive()
