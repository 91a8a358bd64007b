"""Frames on their way to the server: those that wait, the one being sent, those without answer."""

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp

from service.client.live_terms import rows_of, sendable, type_of
from service.client.live_voxels import VoxelSending
from service.errors import FrameMismatchError
from service.pb import warpline_pb2 as pb

# With `every`: frames that wait here while the server has no room.
MOST_WAITING = 4
LATENCIES_KEPT = 100_000


@dataclass
class Counters:
    """What became of the frames. `overtaken` were dropped here, `dropped` by the server."""

    sent: int = 0
    answered: int = 0
    overtaken: int = 0
    dropped: int = 0
    refused: int = 0
    lost: int = 0
    """Sent, and never heard of: a connection or a server broke."""
    reconnects: int = 0
    reopened: int = 0
    round_trips_ms: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES_KEPT))

    def percentiles_ms(self, *wanted: float) -> list[float]:
        """Round trips, from `send` to the whole answer; nan before the first."""
        if not self.round_trips_ms:
            return [float("nan")] * len(wanted)
        found: list[float] = np.percentile(np.array(self.round_trips_ms), wanted).tolist()
        return found


@dataclass(eq=False)
class OutgoingFrame:
    """A frame as it is sent."""

    start: pb.FrameStart
    voxels: np.ndarray
    offered_s: float

    @property
    def number(self) -> int:
        return int(self.start.number)

    def sending(self) -> VoxelSending:
        return VoxelSending(pb.VOXEL_TARGET_FRAME, self.number, self.voxels)


class FrameQueue:
    """Decides which frame is sent next.

    With `latest` one frame waits, and a newer one takes its place. With `every` a few wait in
    order, and those without an answer are kept to be sent again.
    """

    def __init__(self, *, is_every: bool) -> None:
        self._is_every = is_every
        self._waiting: deque[OutgoingFrame] = deque()
        self._unsettled: dict[int, OutgoingFrame] = {}
        self._resent: set[int] = set()
        self._number = 0
        self._room: np.ndarray | None = None  # of an answered frame, for the next one
        self.credit = 0
        self.counters = Counters()
        self.last_answer = 0

    @property
    def is_full(self) -> bool:
        """Whether another frame would have to wait for room; never with `latest`."""
        return self._is_every and len(self._waiting) >= MOST_WAITING

    @property
    def is_settled(self) -> bool:
        """Whether it is known of each frame what became of it."""
        return not self._waiting and not self._unsettled

    def add(self, frame: OutgoingFrame) -> int:
        """Take a frame; gives it the next number."""
        self._number += 1
        frame.start.number = self._number
        if not self._is_every and self._waiting:
            self._waiting.clear()
            self.counters.overtaken += 1
        self._waiting.append(frame)
        return self._number

    def take_room(self) -> np.ndarray | None:
        """Memory of a frame that was answered: a new copy each time costs more than the copying.

        Fresh memory of 4 MiB takes 0.9 ms to be mapped and filled, memory that was used 0.07.
        """
        room, self._room = self._room, None
        return room

    def next(self) -> OutgoingFrame | None:
        """The frame to be sent now, if the server has room for one."""
        if not self._waiting or self.credit < 1:
            return None
        self.credit -= 1
        frame = self._waiting.popleft()
        self._unsettled[frame.number] = frame
        self.counters.sent += frame.number not in self._resent
        return frame

    def go_on(self, credit: int, last_frame: int) -> None:
        """After a break: those that the server may not have are sent again."""
        self.credit = credit
        again = [frame for number, frame in self._unsettled.items() if number > last_frame]
        if not self._is_every:
            again = again[-1:] if not self._waiting else []
        for frame in reversed(again):
            del self._unsettled[frame.number]
            self._resent.add(frame.number)
            self._waiting.appendleft(frame)

    def answered(self, number: int, now_s: float) -> float | None:
        """An answer is whole: its round trip in ms; None for one that has been seen.

        Answers come in order; older frames will have none.
        """
        if number <= self.last_answer:
            return None
        self.last_answer = number
        frame = self._unsettled.pop(number, None)
        if frame is not None and number not in self._resent:  # a second time it may be on its way
            self._room = frame.voxels
        for older in [known for known in self._unsettled if known < number]:
            del self._unsettled[older]
            self.counters.lost += 1
        taken_ms = (now_s - frame.offered_s) * 1000 if frame else float("nan")
        self.counters.answered += 1
        self.counters.round_trips_ms.append(taken_ms)
        return taken_ms

    def dropped(self, numbers: list[int]) -> None:
        """The server has overtaken these."""
        for number in numbers:
            self.counters.dropped += self._unsettled.pop(number, None) is not None

    def refused(self, number: int, code: str) -> bool:
        """The server did not take a frame; False if that is no news.

        One that was sent twice, as nobody knew whether it had arrived, may be refused once.
        """
        if number in self._resent and code == "frame-out-of-order":
            return False
        self.counters.refused += self._unsettled.pop(number, None) is not None
        return True


def outgoing(
    voxels: np.ndarray,
    affine: np.ndarray | None,
    acquired_at: datetime | None,
    now_s: float,
    announced: tuple[tuple[int, int, int], np.dtype[np.generic]],
    *,
    room: np.ndarray | None = None,
) -> OutgoingFrame:
    """A frame of an array, which may be changed afterwards; its number comes with the queue.

    The copy goes into `room`, where there is some: an array of what was announced.

    Raises:
        FrameMismatchError: If it is not as announced.
    """
    shape, dtype = announced
    if voxels.shape != shape:
        raise FrameMismatchError(
            f"The frame has {voxels.shape} voxels; {shape} were announced.", field="frame"
        )
    if voxels.dtype.newbyteorder("<") != dtype:
        raise FrameMismatchError(
            f"The frame is {voxels.dtype}; {dtype} was announced.", field="frame"
        )
    start = pb.FrameStart(voxel_type=type_of(dtype), shape=shape)
    if affine is not None:
        start.affine.extend(rows_of(affine, "frame"))
    if acquired_at is not None:
        stamp = Timestamp()
        stamp.FromDatetime(acquired_at)
        start.acquired_at.CopyFrom(stamp)
    if room is None:
        return OutgoingFrame(start, sendable(voxels, "frame"), now_s)
    np.copyto(room, voxels)
    return OutgoingFrame(start, room, now_s)
