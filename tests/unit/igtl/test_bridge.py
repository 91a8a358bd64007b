"""The bridge over real sockets: a plain peer on one side, a session that is a fake on the other."""

import struct
import time

import numpy as np
import pytest

from service.errors import (
    BudgetTooShortError,
    ConfigurationError,
    LiveFullError,
    UnavailableError,
)
from service.igtl import bridge as bridge_module
from service.igtl import peers as peers_module
from service.igtl.bridge import Bridge
from service.igtl.connection import Connection, Limits
from service.igtl.frames import Frame
from service.igtl.outputs import Outputs
from service.igtl.session import Unanswered
from service.igtl.tally import Tally
from service.igtl.wire import Message
from tests.fakes.igtl_bridge import PLACE, VOXELS, image, running, status_of
from tests.fakes.igtl_peers import (
    AFFINE,
    PATIENCE_S,
    PATIENT,
    FakeService,
    answer_to,
    dropped,
    peer_of,
    wait_for,
)
from tests.igtl_contents import transform_in


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(bridge_module, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(peers_module, "FIRST_WAIT_S", 0.01)


def test_an_image_goes_in_and_its_transform_comes_out():
    service = FakeService()
    with running(service) as made, peer_of(made.port) as peer:
        peer.send(image())
        transform = peer.receive()
        assert (transform.kind, transform.device, transform.stamp) == (
            "TRANSFORM", "ReferenceToImage", 5 << 32,
        )  # fmt: skip
        assert np.allclose(transform_in(transform.content), np.linalg.inv(AFFINE), atol=1e-5)
        assert status_of(peer)[:3] == (1, 1, "pass")
    (session,) = service.sessions
    assert (session.frames[1].voxels == VOXELS).all()
    assert np.allclose(session.frames[1].affine, PLACE, atol=1e-6)
    assert session.is_closed


def test_the_last_answers_reach_peers_that_are_late(monkeypatch):
    """Whoever orders so many answers gets the last one as well, though threads are held up."""

    def late(connection, data):
        time.sleep(0.2)
        real(connection, data)

    real = Connection._send_all
    monkeypatch.setattr(Connection, "_send_all", late)
    monkeypatch.setattr(bridge_module, "LAST_WORD_S", 0.01)
    bridge = Bridge(FakeService(), Outputs(frozenset(["transform"])), Tally(), limits=PATIENT)
    with peer_of(bridge.peers.listen(0, "127.0.0.1")) as peer:
        peer.send(image())
        bridge.run(answers=1)
        assert peer.receive().kind == "TRANSFORM"
        assert status_of(peer)[2] == "pass"
        assert peer.is_ended()


def test_all_peers_are_told():
    with running() as made, peer_of(made.port) as source, peer_of(made.port) as viewer:
        wait_for(lambda: made.tally.peers == 2)
        source.send(image())
        assert viewer.receive_kind("TRANSFORM").stamp == 5 << 32
        assert status_of(viewer)[2] == "pass"


def test_a_peer_of_protocol_3_gets_metadata():
    with running() as made, peer_of(made.port) as peer:
        peer.send(image(), version=2)
        assert peer.receive().version == 2


def test_frames_of_another_form_open_another_session():
    service = FakeService()
    with running(service) as made, peer_of(made.port) as peer:
        for voxels in (VOXELS, VOXELS, VOXELS[:, :3], VOXELS.astype(np.uint8)):
            peer.send(image(voxels))
            assert status_of(peer)[2] == "pass"
    assert [len(session.frames) for session in service.sessions] == [2, 1, 1]
    assert all(session.is_closed for session in service.sessions)


def test_only_images_of_the_device_are_taken():
    service = FakeService()
    with running(service, device="Volume") as made, peer_of(made.port) as peer:
        peer.send(image(device="Other"), image(device="Volume", stamp=9 << 32))
        assert peer.receive().stamp == 9 << 32
    assert len(service.sessions[0].frames) == 1


def test_what_the_bridge_sent_does_not_come_in_again():
    service = FakeService()
    with running(service, wanted=("frame",)) as made, peer_of(made.port) as peer:
        peer.send(image())
        peer.send(peer.receive_kind("IMAGE"), image(stamp=9 << 32))
        assert peer.receive_kind("IMAGE").stamp == 9 << 32
    assert len(service.sessions[0].frames) == 2


def test_too_many_peers_are_turned_away():
    with running(limits=Limits(connections=1)) as made, peer_of(made.port) as first:
        wait_for(lambda: made.tally.peers == 1)
        with peer_of(made.port) as second:
            assert second.is_ended()
        first.send(image())
        assert status_of(first)[2] == "pass"


def test_a_session_that_is_lost_is_opened_again():
    service = FakeService()
    service.deadly_x = 66.0
    elsewhere = PLACE.copy()
    elsewhere[0, 3] = 66.0
    with running(service) as made, peer_of(made.port) as peer:
        peer.send(image())
        assert status_of(peer)[2] == "pass"
        peer.send(image(affine=elsewhere))
        for _ in range(2):
            assert status_of(peer)[:3] == (7, 0, "live-full")
        peer.send(image())
        assert status_of(peer)[2] == "pass"
    assert len(service.sessions) == 3
    assert made.tally.reconnects == 2


def cut_off(number, frame):
    return UnavailableError("Cut off.")


def test_a_session_that_ends_by_its_answers_is_opened_again():
    service = FakeService(cut_off)
    with running(service) as made, peer_of(made.port) as peer:
        peer.send(image())
        for _ in range(2):
            assert status_of(peer)[:3] == (7, 0, "unavailable")
        service.answer = answer_to
        peer.send(image())
        assert status_of(peer)[2] == "pass"


def test_a_service_that_is_away_is_tried_again():
    service = FakeService(refusals=[LiveFullError(), UnavailableError()])
    with running(service) as made, peer_of(made.port) as peer:
        peer.send(image())
        assert status_of(peer)[2] == "live-full"
        assert status_of(peer)[2] == "unavailable"
        assert status_of(peer)[2] == "pass"  # the image has waited


def test_a_frame_that_is_lost_with_its_session_gets_another_chance():
    def answer(number, frame):
        service.answer = answer_to
        return UnavailableError("Cut off.")

    service = FakeService(answer)
    with running(service) as made, peer_of(made.port) as peer:
        peer.send(image())
        assert status_of(peer)[2] == "unavailable"
        assert peer.receive_kind("TRANSFORM").stamp == 5 << 32


def test_what_no_waiting_mends_ends_the_bridge():
    service = FakeService(refusals=[BudgetTooShortError("It takes 90 ms.")])
    with running(service) as made, peer_of(made.port) as peer:
        peer.send(image())
        assert status_of(peer)[:3] == (19, 0, "end")
        assert peer.is_ended()
        made.thread.join(PATIENCE_S)
    assert isinstance(made.error, BudgetTooShortError)


def test_frames_without_an_answer_are_counted():
    service = FakeService(dropped)
    with running(service) as made, peer_of(made.port) as peer:
        peer.send(image())
        wait_for(lambda: made.tally.overtaken == 1)


def test_every_frame_is_answered_where_that_is_wanted():
    service = FakeService()
    with running(service, takes_every=True) as made, peer_of(made.port) as peer:
        wanted = list(range(1, 31))
        for stamp in wanted:
            peer.send(image(stamp=stamp))
        assert [peer.receive_kind("TRANSFORM").stamp for _ in wanted[:1]] == [1]
        wait_for(lambda: made.tally.answers == 30)
    assert [frame.stamp for frame in service.sessions[0].frames.values()] == wanted
    assert made.tally.overtaken == 0


def test_a_port_that_is_taken_is_told():
    with running() as made, pytest.raises(ConfigurationError, match="Choose another"):
        made.bridge.peers.listen(made.port, "127.0.0.1")


def refused(number, frame):
    return Unanswered(1, "no-overlap", "The frame lies elsewhere.")


def test_a_frame_that_is_refused_is_told():
    with running(FakeService(refused)) as made, peer_of(made.port) as peer:
        peer.send(image())
        assert status_of(peer) == (2, 0, "no-overlap", "The frame lies elsewhere.")
        wait_for(lambda: made.tally.refused == 1)


def test_a_slow_reader_holds_nobody_up():
    frame = np.zeros((40, 100, 100), np.int16)
    with running(wanted=("frame",)) as made, peer_of(made.port) as source:
        with peer_of(made.port):  # which never reads
            wait_for(lambda: made.tally.peers == 2)
            for number in range(20):
                source.send(image(frame, stamp=number + 1))
                assert source.receive_kind("IMAGE").stamp == number + 1
        wait_for(lambda: made.tally.peers == 1)


def test_an_image_in_sub_volumes_is_a_frame():
    whole = image().content
    parts = []
    for k in range(3):
        head = bytearray(whole[:72])
        head[60:72] = struct.pack(">6H", 0, 0, k, 5, 4, 1)
        parts.append(Message("IMAGE", bytes(head) + VOXELS[k].tobytes(), "Image", 5 << 32))
    service = FakeService()
    with running(service) as made, peer_of(made.port) as peer:
        peer.send(*parts)
        assert status_of(peer)[2] == "pass"
    assert (service.sessions[0].frames[1].voxels == VOXELS).all()


def test_frames_are_let_go_once_they_can_have_no_answer():
    link = bridge_module._Link(FakeService()(None))
    frames = [Frame(VOXELS, PLACE, stamp) for stamp in range(1, 41)]
    assert [link.remember(frame) for frame in frames] == list(range(1, 41))
    assert len(link.sent) == bridge_module.REMEMBERED
    assert link.settle(39) is frames[38]
    assert list(link.sent.values()) == [frames[39]]
    assert link.unanswered() is frames[39]
    assert link.settle(40) is frames[39]
    assert link.unanswered() is None
