"""Frames: put together of sub-volumes, in a type that a session takes."""

import numpy as np
import pytest

from service.errors import IgtlImageError
from service.igtl.frames import Canvas, Frame, frame_of, taken
from service.igtl.image import SCALARS, Part
from service.igtl.mailbox import Mailbox

AFFINE = np.diag((4.0, 1.3, 0.7, 1.0))
WHOLE = np.arange(24, dtype=np.int16).reshape(2, 3, 4)


def part(k, j, i, voxels=WHOLE, affine=AFFINE):
    """The box of an image that these slices cut out."""
    offset = tuple(cut.start or 0 for cut in (k, j, i))
    return Part(voxels[k, j, i], offset, voxels.shape[:3], affine)


EVERY = slice(None)
LOWER, UPPER = part(slice(0, 1), EVERY, EVERY), part(slice(1, 2), EVERY, EVERY)


def whole_of(canvas, *parts):
    return [image.voxels for image in map(canvas.add, parts) if image is not None]


def test_a_whole_image_passes():
    image = part(EVERY, EVERY, EVERY)
    assert Canvas().add(image) is image


def test_parts_make_an_image_in_any_order():
    parts = [
        part(EVERY, slice(2, 3), slice(0, 3)), part(EVERY, slice(0, 2), EVERY),
        part(EVERY, slice(2, 3), slice(3, 4)),
    ]  # fmt: skip
    for order in (parts, parts[::-1]):
        (made,) = whole_of(Canvas(), *order)
        assert (made == WHOLE).all()
        assert made.dtype == np.int16


def test_the_next_frame_begins_when_one_is_complete():
    canvas = Canvas()
    first = whole_of(canvas, LOWER, LOWER, UPPER)
    second = whole_of(canvas, UPPER, part(slice(0, 1), EVERY, EVERY, WHOLE + 1))
    assert len(first) == len(second) == 1
    assert (first[0] == WHOLE).all()  # and was not written over
    assert (second[0][0] == WHOLE[0] + 1).all()


@pytest.mark.parametrize(
    "other",
    [
        part(slice(1, 2), EVERY, EVERY, affine=np.diag((4.0, 1.3, 0.8, 1.0))),
        part(slice(1, 2), EVERY, EVERY, WHOLE.astype(np.uint8)),
        part(slice(1, 2), EVERY, EVERY, WHOLE[:, :, :3]),
        part(slice(1, 2), EVERY, EVERY, np.stack([WHOLE, WHOLE], axis=-1)),
    ],
)
def test_parts_of_another_image_begin_anew(other):
    canvas = Canvas()
    assert whole_of(canvas, LOWER, other, LOWER) == []
    assert len(whole_of(canvas, UPPER)) == 1


def test_an_image_of_parts_with_components_is_put_together():
    image = np.stack([WHOLE, -WHOLE], axis=-1)
    (made,) = whole_of(Canvas(), *(part(slice(k, k + 1), EVERY, EVERY, image) for k in range(2)))
    assert (made == image).all()


@pytest.mark.parametrize("scalar", SCALARS.values(), ids=lambda scalar: scalar.__name__)
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_type_is_taken_with_its_values(scalar, order):
    voxels = np.array([[[0, 1], [100, 127]]], np.dtype(scalar).newbyteorder(order))
    got = taken(voxels)
    assert got.dtype in map(np.dtype, ("u1", "=i2", "=u2", "=i4", "=f4"))
    assert got.dtype.isnative
    assert (got == voxels).all()


def test_signed_bytes_keep_their_sign():
    assert taken(np.array([[[-128, 127]]], np.int8)).tolist() == [[[-128, 127]]]


def test_voxels_that_are_not_finite_become_zero():
    assert taken(np.array([[[np.nan, np.inf, -np.inf, 2]]])).tolist() == [[[0, 0, 0, 2]]]


def test_what_needs_no_change_is_not_copied():
    assert np.shares_memory(taken(WHOLE), WHOLE)


@pytest.mark.parametrize("voxels", [WHOLE[:1], np.stack([WHOLE] * 3, axis=-1)])
def test_slices_and_colours_are_no_frames(voxels):
    with pytest.raises(IgtlImageError):
        frame_of(Part(voxels, (0, 0, 0), voxels.shape[:3], AFFINE), 0)


def frame(affine=AFFINE, voxels=WHOLE):
    return Frame(voxels, affine, 0)


def test_frames_of_a_session_may_move_and_turn():
    turned = AFFINE.copy()
    turned[:3, :3] = np.array([[0.6, -0.8, 0], [0.8, 0.6, 0], [0, 0, 1]]) @ AFFINE[:3, :3]
    turned[:3, 3] = 5
    assert frame().is_like(frame(turned.astype(np.float32)))


@pytest.mark.parametrize(
    "other",
    [frame(AFFINE * 1.01), frame(voxels=WHOLE[:, :2]), frame(voxels=WHOLE.astype(np.float32))],
)
def test_frames_of_another_form_are_told(other):
    assert not frame().is_like(other)


def test_the_newest_frame_waits():
    import threading

    mailbox, going = Mailbox(), threading.Event()
    first, second = frame(), frame()
    assert mailbox.put(first) == 0
    assert mailbox.put(second) == 1
    assert mailbox.take(going) is second
    assert mailbox.take(going) is None
    mailbox.put(second)
    mailbox.put_back(first)
    assert mailbox.take(going) is second
