"""What a peer can do wrong: each a status and a sentence, and the bridge goes on."""

import struct
from contextlib import suppress

import numpy as np
import pytest

from service.igtl.connection import Limits
from service.igtl.wire import HEADER, Message, pack
from tests.fakes.igtl_bridge import VOXELS, image, running, status_of
from tests.fakes.igtl_peers import QUICK, FakeService, peer_of, wait_for


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
    with running(limits=QUICK) as made:
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
