"""What peers are sent for an answer: directions by hand, contents as pyigtl reads them."""

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose
from pyigtl.messages import MessageBase

from service.igtl.frames import Frame
from service.igtl.outputs import NAMES, OUTPUTS, Outputs
from service.igtl.wire import pack
from tests.fakes.igtl_peers import AFFINE, RIGID, answer_to
from tests.igtl_contents import status_in

FRAME = Frame(
    np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.diag((4.0, 1.3, 0.7, 1.0)), stamp=7 << 32
)


def sent(wanted=OUTPUTS, answer=None, **other):
    outputs = Outputs(frozenset(wanted), **other)
    return outputs.messages(answer or answer_to(3, FRAME), FRAME)


def named(messages):
    return {message.device: message for message in messages}


def theirs(message):
    data = pack(message, 2)
    header = MessageBase.parse_header(data[:58])
    read = MessageBase.create_message(header["message_type"])
    read.unpack(header, data[58:])
    return read


def test_everything_has_the_frame_s_time_and_number_and_status_is_last():
    messages = sent()
    assert [message.device for message in messages] == [
        "WarplineFrame", "WarplineImage", "WarplineLabels", "WarplineGrid", "WarplinePoints",
        "ReferenceToImage", "WarplineText", "Warpline",
    ]  # fmt: skip
    assert {message.stamp for message in messages} == {7 << 32}
    assert all(message.metadata["WarplineFrame"] == "3" for message in messages)
    assert all(len(name.encode()) <= 20 for name in NAMES.values())


@pytest.mark.parametrize("linear", ["affine", "rigid"])
def test_the_transform_moves_the_reference_onto_the_frame(linear):
    """An answer's matrix takes a point of the fixed image to its place in the moving one."""
    matrix = AFFINE if linear == "affine" else RIGID
    in_fixed = np.array([10.0, 20, 30, 1])
    in_moving = matrix @ in_fixed
    of = {role: theirs(sent(["transform"], role=role, linear=linear)[0]).matrix
          for role in ("fixed", "moving")}  # fmt: skip
    # The reference is the moving image: its point goes to where the frame, the fixed one, has it.
    assert_allclose(of["moving"] @ in_moving, in_fixed, atol=1e-5)
    assert_allclose(of["fixed"] @ in_fixed, in_moving, atol=1e-5)


def test_arrays_are_read_by_pyigtl_where_they_lie():
    messages = named(sent())
    expected = {
        "WarplineFrame": FRAME.voxels,
        "WarplineImage": FRAME.voxels,
        "WarplineLabels": FRAME.voxels > 3,
        "WarplineGrid": np.full((2, 3, 4, 3), 0.5),
    }
    for name, voxels in expected.items():
        read = theirs(messages[name])
        assert (read.image == voxels).all()
        assert_allclose(read.ijk_to_world_matrix, FRAME.affine[:, [2, 1, 0, 3]], atol=1e-6)
    assert theirs(messages["WarplineGrid"]).image.dtype == np.float32  # there is no float16


def test_points_have_their_names():
    read = theirs(named(sent(point_names=("apex",)))["WarplinePoints"])
    assert_allclose(read.positions, [(1, 2, 3)])
    assert read.names == ["apex"]
    assert theirs(named(sent())["WarplinePoints"]).names == ["1"]


def test_the_text_is_json():
    facts = json.loads(theirs(named(sent())["WarplineText"]).string)
    assert facts["frame"] == 3
    assert facts["verdict"] == "pass"
    assert facts["motion_max_mm"] == 4.0


@pytest.mark.parametrize(("verdict", "code"), [("pass", 1), ("warn", 1), ("fail", 2)])
def test_the_status_tells_the_verdict(verdict, code):
    answer = answer_to(3, FRAME, verdict=verdict, reasons=("Much of it folds",))
    got = status_in(sent([], answer)[-1].content)
    assert got[:3] == (code, 3, verdict)
    assert got[3].endswith("at most 4.0 mm. Much of it folds")


def test_a_failed_answer_is_held_back_unless_it_is_asked_for():
    answer = answer_to(3, FRAME, verdict="fail")
    assert list(named(sent(OUTPUTS, answer))) == ["WarplineFrame", "WarplineText", "Warpline"]
    assert "ReferenceToImage" in named(sent(OUTPUTS, answer, sends_failed=True))


def test_what_an_answer_lacks_is_left_out():
    answer = answer_to(3, FRAME, field=None, warped_image=None, warped_labels=None, points_mm=None)
    assert list(named(sent(("grid", "image", "labels", "points", "transform"), answer))) == [
        "ReferenceToImage", "Warpline",
    ]  # fmt: skip
