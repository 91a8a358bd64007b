"""TRANSFORM, POINT, STATUS, STRING and CAPABILITY, beside pyigtl where it has them."""

import numpy as np
from numpy.testing import assert_allclose
from pyigtl.messages import MessageBase

from service.igtl.contents import (
    pack_points,
    pack_status,
    pack_string,
    pack_transform,
    pack_types,
)
from tests.igtl_contents import status_in

MATRIX = np.array([[0.0, -1, 0, 10], [1, 0, 0, 20], [0, 0, 1, 30.5], [0, 0, 0, 1]])


def theirs(kind, content):
    message = MessageBase.create_message(kind)
    message._unpack_content(content)
    return message


def test_transforms_are_read_by_pyigtl():
    assert_allclose(theirs("TRANSFORM", pack_transform(MATRIX)).matrix, MATRIX)


def test_points_are_read_by_pyigtl():
    positions = np.array([(1.5, -2, 3), (0, 0, 1e3)])
    got = theirs("POINT", pack_points(positions, ["apex", "b" * 70], "Image"))
    assert_allclose(got.positions, positions)
    assert got.names == ["apex", "b" * 64]
    assert got.owners == ["Image", "Image"]
    assert pack_points(np.zeros((0, 3)), [], "") == b""


def test_text_is_read_by_pyigtl():
    assert theirs("STRING", pack_string("größer")).string == "größer"
    assert len(theirs("STRING", pack_string("ä" * 40_000)).string) == 32_767


def test_a_status_has_thirty_bytes_and_a_sentence_that_ends_in_zero():
    content = pack_status(2, "fail", "no good", subcode=-5)
    # code, then a signed 64-bit number, then 20 bytes of a name: the protocol's table.
    assert content == b"\0\2" + b"\xff" * 7 + b"\xfb" + b"fail".ljust(20, b"\0") + b"no good\0"
    assert status_in(content) == (2, -5, "fail", "no good")
    assert status_in(pack_status(1, "n" * 30, "")) == (1, 0, "n" * 19, "")


def test_kinds_have_twelve_bytes_each():
    assert pack_types(["IMAGE", "GET_TRANSFORM"]) == b"IMAGE\0\0\0\0\0\0\0GET_TRANSFOR"
