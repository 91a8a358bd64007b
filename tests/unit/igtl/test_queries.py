"""GET_, STT_ and STP_ messages."""

from contextlib import contextmanager

from service.igtl.wire import Message
from tests.fakes.igtl_bridge import image, running, status_of
from tests.fakes.igtl_peers import peer_of
from tests.igtl_contents import status_in


@contextmanager
def asked(*queries, version=1):
    """The answers to queries after a frame."""
    with running(wanted=("transform", "labels")) as made, peer_of(made.port) as peer:
        peer.send(image())
        assert status_of(peer)[2] == "pass"
        peer.send(*queries, version=version)
        yield peer


def test_the_latest_can_be_asked_for():
    queries = [Message("GET_TRANS"), Message("GET_IMAGE", device="WarplineLabels")]
    with asked(*queries, Message("GET_STATUS")) as peer:
        assert peer.receive().device == "ReferenceToImage"
        assert peer.receive().device == "WarplineLabels"
        assert peer.receive().kind == "STATUS"


def test_what_is_not_there_is_an_empty_message():
    with asked(Message("GET_POINT"), Message("GET_IMAGE", device="Other")) as peer:
        for kind, device in (("POINT", ""), ("IMAGE", "Other")):
            got = peer.receive()
            assert (got.kind, got.device, bytes(got.content)) == (kind, device, b"")


def test_capabilities_and_unknown_queries():
    with asked(Message("GET_CAPABIL"), Message("GET_WEATHER"), Message("STT_TDATA")) as peer:
        kinds = bytes(peer.receive().content)
        assert kinds[:12] == b"IMAGE".ljust(12, b"\0")
        assert len(kinds) % 12 == 0
        assert status_in(peer.receive().content)[0] == 12
        got = peer.receive()
        assert (got.kind, bytes(got.content)) == ("RTS_TDATA", b"\1")


def test_a_peer_can_stop_a_kind_and_start_it_again():
    with asked(Message("STP_TRANSFOR", device="x")) as peer:
        got = peer.receive()
        assert (got.kind, got.device, bytes(got.content)) == ("RTS_TRANSFOR", "x", b"\0")
        peer.send(image())
        assert [peer.receive().kind for _ in range(2)] == ["IMAGE", "STATUS"]
        peer.send(Message("STT_TRANSFOR"), image())
        assert [peer.receive().kind for _ in range(3)] == ["RTS_TRANSFOR", "IMAGE", "TRANSFORM"]


def test_a_long_body_of_a_query_is_not_read():
    with asked(Message("GET_TRANS", bytes(1 << 17))) as peer:
        assert peer.receive().kind == "TRANSFORM"
