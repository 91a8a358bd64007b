"""What every association of ours does, whoever opened it."""

import socket
from typing import Any

import pytest
from pynetdicom import evt
from pynetdicom.presentation import build_context

from service.pacs.association import associated, serving
from service.pacs.peers import DimsePeer
from tests.archives import LEFT_OPEN
from tests.servers import free_port

ECHO = "1.2.840.10008.1.1"


@pytest.mark.usefixtures("collected")
@pytest.mark.filterwarnings(LEFT_OPEN)
def test_neither_side_keeps_a_packet_back() -> None:
    at_once: list[bool] = []

    def look(event: Any) -> None:
        end = event.assoc.dul.socket.socket
        at_once.append(end.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0)

    handlers, contexts = [(evt.EVT_ESTABLISHED, look)], [build_context(ECHO)]
    port = free_port()
    us = DimsePeer(
        protocol="dimse",
        host="127.0.0.1",
        port=port,
        ae_title="US",
        calling_ae_title="US",
        connect_timeout_s=120,
        timeout_s=120,
    )
    with (
        serving(us, port, handlers, contexts),
        associated(us, contexts, handlers=handlers) as association,
    ):
        assert association.send_c_echo().Status == 0
    assert at_once == [True, True]
