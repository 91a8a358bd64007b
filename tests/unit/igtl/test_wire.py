"""Headers, extended headers, metadata and timestamps, beside pyigtl's."""

import struct
import time
from fractions import Fraction

import numpy as np
import pyigtl
import pytest
from pyigtl.messages import MessageBase

from service.errors import (
    IgtlChecksumError,
    IgtlLengthError,
    IgtlStreamError,
    IgtlTooLargeError,
    IgtlVersionError,
)
from service.igtl.wire import (
    HEADER,
    Message,
    nanoseconds,
    open_body,
    pack,
    parse_header,
    require_size,
)

STRING = Message("STRING", b"\0\3\0\2hi", device="Greeting", stamp=5 << 32)


def opened(data):
    return open_body(parse_header(data[:58]), data[58:])


def theirs(data):
    header = MessageBase.parse_header(data[:58])
    message = MessageBase.create_message(header["message_type"])
    message.unpack(header, data[58:])
    return message


@pytest.mark.parametrize("version", [1, 2, 3])
def test_what_is_packed_opens_again(version):
    message = opened(pack(STRING, version))
    assert (message.kind, message.device, message.stamp) == ("STRING", "Greeting", 5 << 32)
    assert bytes(message.content) == b"\0\3\0\2hi"
    assert message.version == version


@pytest.mark.parametrize("version", [1, 2])
def test_pyigtl_messages_open(version):
    message = pyigtl.StringMessage("hi", device_name="Greeting", timestamp=1_000_000_000.25)
    message.header_version = version
    message.metadata = {"Key": "value", "Other": ""} if version == 2 else {}
    ours = opened(message.pack())
    assert (ours.kind, ours.device, bytes(ours.content)) == ("STRING", "Greeting", b"\0\3\0\2hi")
    assert nanoseconds(ours.stamp) == 1_000_000_000_250_000_000


@pytest.mark.parametrize("metadata", [{}, {"Verdict": "pass"}, {"a": "", "Füße": "größer 1 °"}])
def test_pyigtl_reads_our_metadata(metadata):
    message = Message("STRING", b"\0\3\0\2hi", device="Greeting", metadata=metadata)
    got = theirs(pack(message, 2))
    assert got.metadata == metadata
    assert got.string == "hi"


def stamp_of(nanoseconds_since_1970):
    """Seconds in the upper half, 2^-32 s in the lower: the nearest."""
    seconds, rest = divmod(nanoseconds_since_1970, 10**9)
    return (seconds << 32) + round(Fraction(rest << 32, 10**9))


def test_pyigtl_reads_our_timestamp():
    at = 1_795_000_000_123_456_789
    got = theirs(pack(Message("STRING", STRING.content, stamp=stamp_of(at)))).timestamp
    assert got == pytest.approx(at / 1e9, abs=1e-6)


def test_timestamps_are_nanoseconds():
    now = time.time_ns()
    assert nanoseconds(stamp_of(now)) == now
    assert nanoseconds(0) is None


def test_long_names_are_cut_between_characters():
    data = pack(Message("STRING", STRING.content, device="ä" * 15))
    assert parse_header(data[:58]).device == "ä" * 10
    assert theirs(data).device_name == "ä" * 10
    data = pack(Message("STRING", STRING.content, device="x" + "ä" * 15))
    assert parse_header(data[:58]).device == "x" + "ä" * 9


def test_a_flipped_bit_anywhere_in_the_body_is_found():
    data = pack(STRING, 2)
    for bit in range(58 * 8, len(data) * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(IgtlChecksumError):
            opened(bytes(damaged))


def signed(body, version):
    """A message with a right checksum, whatever its body says."""
    message = Message("STRING", body)
    return struct.pack(">H", version) + pack(message)[2:]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        bytes(11),
        struct.pack(">HHII", 11, 0, 0, 0),
        struct.pack(">HHII", 13, 0, 0, 0),
        struct.pack(">HHII", 12, 1, 0, 0),
        struct.pack(">HHII", 12, 0, 0xFFFFFFFF, 0),
        struct.pack(">HHII", 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0),
    ],
)
def test_lengths_that_do_not_fit_are_refused(body):
    with pytest.raises(IgtlLengthError):
        opened(signed(body, 2))


def test_a_longer_extended_header_is_passed_over():
    body = struct.pack(">HHII", 16, 0, 0, 0) + b"more" + b"text"
    assert bytes(opened(signed(body, 2)).content) == b"text"


@pytest.mark.parametrize("version", [4, 255])
def test_versions_to_come_are_told_from_garbage(version):
    with pytest.raises(IgtlVersionError):
        opened(signed(b"", version))


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n".ljust(58), bytes(58), b"\xff" * 58])
def test_what_is_not_openigtlink_is_told(data):
    with pytest.raises(IgtlStreamError):
        parse_header(data)


def test_bodies_over_the_limit_are_refused_by_their_header():
    header = parse_header(HEADER.pack(1, b"IMAGE", b"", 0, 2**64 - 1, 0))
    with pytest.raises(IgtlTooLargeError):
        require_size(header, 2**63)
    require_size(header, 2**64 - 1)


def test_names_are_never_shown():
    header = parse_header(pack(Message("STRING", b"", device="DOE^JANE"))[:58])
    assert "DOE" not in repr(header)
    assert "DOE" not in repr(Message("STRING", device="DOE^JANE", metadata={"Name": "DOE"}))


def test_a_large_image_message_has_pyigtl_s_checksum():
    voxels = np.arange(64**3, dtype=np.uint16).reshape(64, 64, 64)
    data = pyigtl.ImageMessage(voxels).pack()
    assert len(opened(data).content) == 72 + 2 * 64**3
