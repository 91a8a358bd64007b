"""Arrays as they are sent, and answers put together of chunks."""

import zlib

import numpy as np
import pytest

from service.client.live_answers import Arriving
from service.client.live_frames import FrameQueue, OutgoingFrame, outgoing
from service.client.live_talk import MOST_COMPLAINTS, LiveTalk
from service.client.live_terms import Opening, matrix_of, rows_of, sendable
from service.client.live_voxels import CHUNK_BYTES, VoxelSending
from service.client.rpc_steps import Failed
from service.errors import (
    ChecksumMismatchError,
    ChunkOrderError,
    SessionTakenOverError,
    UnavailableError,
)
from service.pb import warpline_pb2 as pb

GRID = pb.Grid(shape=(2, 3, 4), affine=range(12))


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (np.array([[[0, 255]]]), "uint8"),
        (np.array([[[-1, 255]]]), "int16"),
        (np.array([[[0, 40_000]]]), "uint16"),
        (np.array([[[0, 2**31 - 1]]]), "int32"),
        (np.array([[[0, 2**40]]]), "float32"),
        (np.array([[[True, False]]]), "uint8"),
        (np.array([[[0.5, 1.5]]]), "float32"),
        (np.array([[[1, 2]]], dtype=">i2"), "int16"),
        (np.array([[[1, 2]]], dtype=np.int16), "int16"),
    ],
)
def test_values_arrive_in_a_type_that_is_sent(given, sent):
    made = sendable(given, "frame")
    assert made.dtype == np.dtype(sent).newbyteorder("<")
    np.testing.assert_array_equal(made.astype(float), given.astype(float))


def test_the_last_axis_is_the_fastest_whatever_lies_in_memory():
    given = np.asfortranarray(np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    assert sendable(given, "frame").tobytes() == np.arange(24, dtype="<i2").tobytes()
    assert sendable(given, "frame") is not given


def test_chunks_follow_one_another_from_any_byte():
    voxels = np.random.default_rng(0).integers(0, 9, 3 * CHUNK_BYTES // 2, np.uint8)
    sending = VoxelSending(pb.VOXEL_TARGET_FRAME, 7, voxels.reshape(1, 1, -1), offset=100)
    chunks = [pb.LiveRequest.FromString(sent).chunk for sent in iter(sending.next, None)]
    assert [chunk.offset for chunk in chunks] == [100, 100 + CHUNK_BYTES]
    assert b"".join(chunk.data for chunk in chunks) == voxels[100:].tobytes()
    assert all(chunk.crc32 == zlib.crc32(chunk.data) for chunk in chunks)
    assert {(chunk.target, chunk.frame) for chunk in chunks} == {(pb.VOXEL_TARGET_FRAME, 7)}


def offered(queue: FrameQueue, value: int) -> OutgoingFrame:
    """A frame of this value, on its way."""
    announced = ((2, 3, 4), np.dtype("<i2"))
    voxels = np.full((2, 3, 4), value, np.int16)
    queue.add(outgoing(voxels, None, None, 0.0, announced, room=queue.take_room()))
    queue.credit += 1
    frame = queue.next()
    assert frame is not None
    return frame


def test_the_memory_of_an_answered_frame_is_used_for_the_next_and_of_no_other():
    queue = FrameQueue(is_every=True)
    first, second = offered(queue, 1), offered(queue, 2)
    queue.answered(1, 0.0)
    third = offered(queue, 3)
    assert third.voxels is first.voxels
    assert second.voxels.max() == 2
    queue.refused(2, "no-contrast")
    queue.go_on(credit=1, last_frame=0)  # the third is sent a second time
    again = queue.next()
    assert again is third
    queue.answered(3, 0.0)
    assert offered(queue, 4).voxels is not third.voxels


def test_what_is_sent_says_what_it_is():
    frame = offered(FrameQueue(is_every=False), 1)
    assert (frame.start.voxel_type, list(frame.start.shape)) == (pb.VOXEL_TYPE_INT16, [2, 3, 4])


def test_a_matrix_is_sent_row_by_row():
    matrix = np.arange(16.0).reshape(4, 4)
    matrix[3] = (0, 0, 0, 1)
    assert rows_of(matrix, "frame") == list(range(12))
    np.testing.assert_array_equal(matrix_of(rows_of(matrix, "frame")), matrix)


def test_labels_and_points_come_back_unless_told_otherwise():
    labels, image = np.ones((2, 3, 4), int), np.arange(24.0).reshape(2, 3, 4)
    points = np.zeros((1, 3))
    opened = Opening.of(image, np.eye(4), {"labels": labels, "points": points}).message
    assert (opened.outputs.warped_labels, opened.outputs.points) == (True, True)
    assert opened.role == pb.REFERENCE_ROLE_MOVING
    fixed = Opening.of(image, np.eye(4), {"labels": labels, "role": "fixed"}).message
    assert not fixed.outputs.warped_labels  # a fixed reference's labels are warped nowhere


def arriving() -> tuple[Arriving, bytes, bytes]:
    """An answer with two arrays, and their bytes."""
    field = np.arange(72, dtype="<f2").tobytes()
    labels = np.arange(24, dtype="<u2").tobytes()
    headers = [
        (pb.VOXEL_TARGET_FIELD, pb.VOXEL_TYPE_FLOAT16),
        (pb.VOXEL_TARGET_WARPED_LABELS, pb.VOXEL_TYPE_UINT16),
    ]
    arrays = [
        pb.AnswerArray(target=target, header=pb.ArrayHeader(grid=GRID, voxel_type=type_))
        for target, type_ in headers
    ]
    return Arriving(pb.FrameAnswer(number=5, arrays=arrays)), field, labels


def chunk(target, offset: int, data: bytes, **more) -> pb.VoxelChunk:
    given = {"frame": 5, "crc32": zlib.crc32(data)} | more
    return pb.VoxelChunk(target=target, offset=offset, data=data, **given)


def test_an_answer_is_put_together():
    answer, field, labels = arriving()
    answer.take(chunk(pb.VOXEL_TARGET_FIELD, 0, field[:51]))
    answer.take(chunk(pb.VOXEL_TARGET_FIELD, 51, field[51:]))
    assert not answer.is_whole
    answer.take(chunk(pb.VOXEL_TARGET_WARPED_LABELS, 0, labels))
    assert answer.is_whole
    whole = answer.answer(12.5)
    assert whole.field is not None
    assert whole.warped_labels is not None
    np.testing.assert_array_equal(whole.field.data.ravel(), np.arange(72))
    assert whole.field.data.shape == (2, 3, 4, 3)
    assert whole.warped_labels.data[1, 2, 3] == 23
    np.testing.assert_array_equal(whole.field.affine[:3].ravel(), np.arange(12))
    assert whole.warped_image is None
    assert (whole.number, whole.round_trip_ms, whole.acquired_at) == (5, 12.5, None)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"offset": 8}, ChunkOrderError),
        ({"target": pb.VOXEL_TARGET_WARPED_LABELS}, ChunkOrderError),
        ({"frame": 4}, ChunkOrderError),
        ({"data": bytes(145)}, ChunkOrderError),
        ({"crc32": 1}, ChecksumMismatchError),
    ],
)
def test_a_damaged_answer_is_told(wrong, error):
    answer, field, _ = arriving()
    given = {"target": pb.VOXEL_TARGET_FIELD, "offset": 0, "data": field} | wrong
    with pytest.raises(error):
        answer.take(chunk(**given))


def test_the_last_word_of_a_server_counts_more_than_how_the_call_ended():
    talk = LiveTalk(Opening.of(np.arange(24.0).reshape(2, 3, 4), np.eye(4), {}), patience_s=60)
    talk.connect(0.0)
    talk.take(pb.LiveResponse(opened=pb.Opened(session_id="s")), 0.0)
    problem = pb.Problem(code="session-taken-over", detail="Another goes on.")
    talk.take(pb.LiveResponse(closed=pb.SessionClosed(problem=problem, is_kept=True)), 1.0)
    lost = Failed(UnavailableError("Internal error from Core"), is_lost=True)
    assert talk.broke(lost, 2.0) is None
    assert isinstance(talk.error, SessionTakenOverError)


def test_damage_is_mended_by_another_connection_but_not_for_ever():
    talk = LiveTalk(Opening.of(np.arange(24.0).reshape(2, 3, 4), np.eye(4), {}), patience_s=60)
    for _ in range(MOST_COMPLAINTS):
        talk.connect(0.0)
        assert talk.broke(Failed(ChecksumMismatchError()), 0.0) is not None
    assert talk.broke(Failed(ChecksumMismatchError()), 0.0) is None
    assert isinstance(talk.error, ChecksumMismatchError)
