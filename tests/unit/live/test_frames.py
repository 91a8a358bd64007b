"""Frames come in memory that is used again."""

import pytest

from service.live.frames import FrameDoor
from service.live.opening import LiveLimits, read_open
from service.pb import warpline_pb2 as pb
from service.settings import Settings
from tests.live_client import frame
from tests.live_fakes import image, wish


def sent(door: FrameDoor, number: int) -> None:
    start, chunk = frame(number, image(number))
    door.begin(start.frame, 0.0)
    assert door.take(chunk.chunk, 1.0)
    door.owed_credit()


@pytest.mark.parametrize(
    ("policy", "most"), [(pb.FRAME_POLICY_LATEST, 3), (pb.FRAME_POLICY_EVERY, 5)]
)
def test_a_session_makes_only_as_many_buffers_as_it_was_reckoned_with(policy, most):
    opening = read_open(pb.Open(**wish(policy=policy)), LiveLimits.of(Settings()))
    assert opening.frame_buffers == most
    door = FrameDoor(opening, lambda *_: None, lambda: None)
    buffers = set()
    for number in range(1, 60, 3):
        sent(door, number)
        taken = door.next()
        assert taken is not None
        door.owed_credit()
        sent(door, number + 1)  # while the other one is registered
        sent(door, number + 2)
        buffers.add(taken.buffer)
        door.release(taken)
        while (waiting := door.next()) is not None:
            buffers.add(waiting.buffer)
            door.release(waiting)
        door.owed_credit()
    assert len(buffers) <= most
