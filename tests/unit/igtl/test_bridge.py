"""The bridge over real sockets: a plain peer on one side, a session that is a fake on the other."""

import struct
import threading
from contextlib import contextmanager, suppress

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
from service.igtl.connection import Limits
from service.igtl.contents import unpack_status, unpack_transform
from service.igtl.frames import Frame
from service.igtl.image import pack_image
from service.igtl.outputs import Outputs
from service.igtl.session import Unanswered
from service.igtl.tally import Tally
from service.igtl.wire import HEADER, Message, pack
from tests.fakes.igtl_peers import (
    AFFINE,
    QUICK,
    FakeService,
    answer_to,
    dropped,
    peer_of,
    wait_for,
)

VOXELS = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
PLACE = np.diag((4.0, 1.3, 0.7, 1.0))


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(bridge_module, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(peers_module, "FIRST_WAIT_S", 0.01)


class Running:
    """A bridge that runs, and how it ended."""

    def __init__(self, service, outputs, **other):
        self.said = []
        self.tally = Tally(self.said.append)
        self.bridge = Bridge(service, outputs, self.tally, **({"limits": QUICK} | other))
        self.port = self.bridge.peers.listen(0, "127.0.0.1")
        self.error = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        try:
            self.bridge.run()
        except Exception as error:
            self.error = error


@contextmanager
def running(service=None, wanted=("transform",), **other):
    made = Running(service or FakeService(), Outputs(frozenset(wanted)), **other)
    try:
        yield made
    finally:
        made.bridge.stop()
        made.thread.join(20)
        assert not made.thread.is_alive()


def image(voxels=VOXELS, device="Image", stamp=5 << 32, affine=PLACE):
    return Message("IMAGE", pack_image(voxels, affine), device, stamp)


def status_of(peer):
    return unpack_status(peer.receive_kind("STATUS").content)


def test_an_image_goes_in_and_its_transform_comes_out():
    service = FakeService()
    with running(service) as made, peer_of(made.port) as peer:
        peer.send(image())
        transform = peer.receive()
        assert (transform.kind, transform.device, transform.stamp) == (
            "TRANSFORM", "ReferenceToImage", 5 << 32,
        )  # fmt: skip
        assert np.allclose(unpack_transform(transform.content), np.linalg.inv(AFFINE), atol=1e-5)
        assert status_of(peer)[:3] == (1, 1, "pass")
    (session,) = service.sessions
    assert (session.frames[1].voxels == VOXELS).all()
    assert np.allclose(session.frames[1].affine, PLACE, atol=1e-6)
    assert session.is_closed


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


def damaged():
    data = bytearray(pack(image()))
    data[-1] ^= 1
    return bytes(data)


def version_4():
    return b"\0\4" + pack(image())[2:]


def lying_image():
    content = bytearray(image().content)
    content[66:68] = struct.pack(">H", 4)
    return pack(Message("IMAGE", bytes(content)))


def one_slice():
    return pack(image(VOXELS[:1]))


@pytest.mark.parametrize(
    ("data", "code", "name"),
    [
        (damaged(), 9, "igtl-checksum"),
        (version_4(), 17, "igtl-version"),
        (lying_image(), 2, "igtl-length"),
        (one_slice(), 2, "igtl-image"),
        (pack(Message("IMAGE", b"short")), 2, "igtl-length"),
    ],
    ids=["damaged", "version 4", "lying image", "one slice", "short"],
)
def test_bad_messages_are_told_and_the_connection_goes_on(data, code, name):
    with running() as made, peer_of(made.port) as peer:
        peer.send(data)
        got = status_of(peer)
        assert (got[0], got[2]) == (code, name)
        assert got[3].endswith(".")
        peer.send(image())
        assert status_of(peer)[2] == "pass"
    assert made.tally.faults == {name: 1}
    assert made.said == [f"{name}: {got[3]}"]


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"GET / HTTP/1.1\r\nHost: scanner.example\r\nAccept: everything\r\n\r\n", "igtl-stream"),
        (HEADER.pack(1, b"IMAGE", b"", 0, 1 << 60, 0), "igtl-too-large"),
        (HEADER.pack(1, b"POLYDATA", b"", 0, 1 << 60, 0), "igtl-too-large"),
        (pack(image())[:-1], "igtl-truncated"),
        (pack(image())[:20], "igtl-truncated"),
        (pack(Message("POLYDATA", bytes(99)))[:-1], "igtl-truncated"),
    ],
    ids=["http", "absurd", "absurd and unread", "silent body", "silent header", "silent, unread"],
)
def test_streams_that_cannot_go_on_are_told_and_ended(data, name):
    with running() as made:
        with peer_of(made.port) as peer:
            peer.send(data)
            assert status_of(peer)[2] == name
            assert peer.is_ended()
        with peer_of(made.port) as other:
            other.send(image())
            assert status_of(other)[2] == "pass"
    assert made.tally.faults == {name: 1}


def test_a_peer_that_leaves_in_the_middle_is_noted():
    with running() as made:
        with peer_of(made.port) as peer:
            peer.send(pack(image())[:-1])
        wait_for(lambda: made.tally.faults == {"igtl-truncated": 1})
        wait_for(lambda: made.tally.peers == 0)


def test_kinds_that_nobody_reads_are_passed_over():
    with running() as made, peer_of(made.port) as peer:
        peer.send(Message("POLYDATA", bytes(200_000)), Message("TRANSFORM", bytes(48)))
        peer.send(Message("NEW_KIND"), Message("STATUS", bytes(31)), image())
        assert peer.receive().kind == "TRANSFORM"
    assert not made.tally.faults


def test_nothing_of_a_patient_is_said():
    with running() as made, peer_of(made.port) as peer:
        for data in (damaged(), one_slice()):
            peer.send(data[:14] + b"DOE^JANE".ljust(20, b"\0") + data[34:])
            assert "DOE" not in status_of(peer)[3]
    assert made.said
    assert not any("DOE" in sentence for sentence in made.said)


def test_a_flood_of_bad_messages_is_counted_but_not_repeated():
    with running() as made, peer_of(made.port) as peer:
        peer.send(*[damaged()] * 50)
        wait_for(lambda: made.tally.faults["igtl-checksum"] == 50)
    assert len(made.said) == 1


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
        made.thread.join(20)
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


def damaged_somewhere(random):
    """A message of which some bytes, or the end, are other ones; half of them with a right CRC."""
    message = image() if random.random() < 0.7 else Message("GET_TRANS", b"x")
    body = bytearray(pack(message, 2)[58:] if random.random() < 0.5 else message.content)
    for _ in range(random.integers(1, 6)):
        body[random.integers(min(len(body), 90))] = random.integers(256)
    data = bytearray(pack(Message(message.kind, bytes(body), "Image")))
    data[1] = random.choice([1, 2, 3])
    if random.random() < 0.5:
        data[random.integers(len(data))] ^= 1 << random.integers(8)
    return bytes(data[: random.integers(len(data))] if random.random() < 0.1 else data)


def test_nothing_that_arrives_breaks_the_bridge():
    random = np.random.default_rng(5)
    service = FakeService()
    with running(service, limits=Limits(most_bytes=1 << 22, stall_s=0.05)) as made:
        for _ in range(60):
            with peer_of(made.port) as peer, suppress(ConnectionError):
                peer.send(*(damaged_somewhere(random) for _ in range(4)))
        wait_for(lambda: made.tally.peers == 0)
        with peer_of(made.port) as peer:
            peer.send(image(stamp=77 << 32))
            while peer.receive_kind("TRANSFORM").stamp != 77 << 32:
                pass
    assert made.tally.faults["igtl-checksum"] > 10
    assert made.error is None


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
        assert unpack_status(peer.receive().content)[0] == 12
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
