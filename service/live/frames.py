"""Frames as they arrive, wait and are taken: so many at a time, in memory that is reused."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp

from service.errors import (
    CreditExceededError,
    FrameIncompleteError,
    FrameMismatchError,
    FrameOrderError,
    LiveProtocolError,
    WarplineError,
)
from service.live.buffers import VoxelBuffer
from service.live.opening import Opening
from service.pb import warpline_pb2 as pb
from service.registration.grid import Grid
from service.registration.volume import Volume

# Two, so that a frame can be on its way while the one before is taken.
LATEST_CREDIT = 2
# Numbers of dropped frames that are remembered for a client that does not read.
MOST_TOLD = 1000
# A refused frame of a larger type or shape may end, up to so many times what was announced.
MOST_SKIPPED = 16

Refuse = Callable[[int, WarplineError], None]


@dataclass(eq=False)
class Frame:
    """A frame; `began_s` and `arrived_s` are when its first and its last byte came (monotonic)."""

    number: int
    acquired_at: Timestamp | None
    grid: Grid
    buffer: VoxelBuffer
    began_s: float
    arrived_s: float = 0.0
    is_spoiled: bool = False  # more bytes came than it has: its voxels are not what they seem

    @property
    def volume(self) -> Volume:
        """Its voxels, shared: only until the frame is given back."""
        return Volume(self.buffer.array, self.grid)


class FrameDoor:
    """Takes frames in, and keeps those that wait.

    With `latest` one frame waits and a newer one takes its place. With `every` they wait in order,
    and credit comes back only when one is taken out.
    """

    def __init__(self, opening: Opening, refuse: Refuse, lost: Callable[[], None]) -> None:
        """Open the door.

        Args:
            opening: What was announced.
            refuse: Told number and reason of each frame that is not taken.
            lost: Told of each frame that is dropped.
        """
        self._opening = opening
        self._refuse = refuse
        self._lost = lost
        self._free: list[VoxelBuffer] = []
        self._filling: Frame | None = None
        self._skipping: tuple[int, int] | None = None  # a refused frame, and its bytes to come
        self._whole: Frame | None = None  # the one that was filled last
        self._waiting: deque[Frame] = deque()
        self._credit = self._room = (
            opening.frame_buffers - 1 if opening.answers_all else LATEST_CREDIT
        )
        self._owed = 0
        self._newest = 0
        self.dropped = 0
        self._dropped_now: list[int] = []

    @property
    def credit(self) -> int:
        """Frames that the client may begin now, as far as it was told."""
        return self._credit

    @property
    def has_frame(self) -> bool:
        return bool(self._waiting)

    def owed_credit(self) -> int:
        """Credit to be granted to the client now; it counts as told."""
        owed, self._owed = self._owed, 0
        self._credit += owed
        return owed

    def dropped_since(self) -> list[int]:
        """Numbers that were overtaken since this was asked last."""
        numbers, self._dropped_now = self._dropped_now, []
        return numbers

    def begin(self, start: pb.FrameStart, now_s: float) -> None:
        """A frame begins.

        Raises:
            CreditExceededError: If the client has no credit for it: a flood.
        """
        if self._credit < 1:
            raise CreditExceededError(
                "A frame came without credit for it. Send as many frames as were granted."
            )
        self._credit -= 1
        self._whole = None
        if self._filling is not None:
            self._give_up(
                self._filling,
                FrameIncompleteError(
                    f"Frame {self._filling.number} has {self._filling.buffer.received} of its "
                    f"{self._opening.frame.size_bytes} bytes, and another frame began."
                ),
            )
        self._skipping = (start.number, self._bytes_of(start))
        try:
            self._filling = self._begun(start, now_s)
            self._skipping = None
        except WarplineError as error:
            self._owed += 1
            self._refuse(start.number, error)

    def take(self, chunk: pb.VoxelChunk, now_s: float) -> bool:
        """Take bytes of the frame that began last; whether it is whole now.

        Raises:
            LiveProtocolError: If no such frame has begun.
            CreditExceededError: If a refused frame does not end.
        """
        frame = self._filling
        if frame is None or chunk.frame != frame.number:
            self._skip(chunk)
            return False
        try:
            frame.buffer.put(chunk)
            if not frame.buffer.is_full:
                return False
            frame.buffer.require_contrast()
        except WarplineError as error:
            self._give_up(frame, error)
            self._skipping = (frame.number, self._opening.frame.size_bytes)
            return False
        frame.arrived_s = now_s
        self._filling, self._whole = None, frame
        self._wait(frame)
        return True

    def next(self) -> Frame | None:
        """The frame that is to be registered now; give it back with `release`."""
        if not self._waiting:
            return None
        if self._opening.answers_all:
            self._owed += 1
        return self._waiting.popleft()

    def release(self, frame: Frame) -> None:
        """The frame's memory may be used again."""
        self._free.append(frame.buffer)

    def drop_number(self, number: int) -> None:
        """A frame's answer was overtaken; counted and told as if the frame had been."""
        self.dropped += 1
        self._lost()
        self._dropped_now = [*self._dropped_now[-MOST_TOLD:], number]

    def close(self) -> None:
        """Give all memory back."""
        self._free.clear()
        self._waiting.clear()
        self._filling = self._whole = None
        self._dropped_now.clear()

    def reconnect(self) -> None:
        """Another connection goes on: half a frame is forgotten, credit is as at the start."""
        if self._filling is not None:
            self.release(self._filling)
            self._newest = self._filling.number - 1
        self._filling = self._skipping = self._whole = None
        waiting = len(self._waiting) if self._opening.answers_all else 0
        self._owed, self._credit = 0, self._room - waiting

    def _begun(self, start: pb.FrameStart, now_s: float) -> Frame:
        if start.number <= self._newest:
            raise FrameOrderError(
                f"Frame {start.number} came after frame {self._newest}. Numbers count up from 1.",
                field="number",
            )
        self._newest = start.number
        grid = self._opening.frame_grid(start)
        acquired = start.acquired_at if start.HasField("acquired_at") else None
        return Frame(start.number, acquired, grid, self._room_for_one(), now_s)

    def _bytes_of(self, start: pb.FrameStart) -> int:
        """How much may come of a frame that is refused: what it says that it has, within reason."""
        most = MOST_SKIPPED * self._opening.frame.size_bytes
        return min(most, max(self._opening.frame.size_bytes, self._opening.frame_bytes(start)))

    def _room_for_one(self) -> VoxelBuffer:
        if self._free:
            buffer = self._free.pop()
            buffer.clear()
            return buffer
        # Credit keeps them as few as `frame_buffers` says.
        return VoxelBuffer(self._opening.frame, "frame")

    def _wait(self, frame: Frame) -> None:
        if not self._opening.answers_all:
            self._owed += 1
            while self._waiting:
                self._drop(self._waiting.popleft())
        self._waiting.append(frame)

    def _drop(self, frame: Frame) -> None:
        self.drop_number(frame.number)
        self.release(frame)

    def _give_up(self, frame: Frame, error: WarplineError) -> None:
        self._filling = None
        self._owed += 1
        self.release(frame)
        self._refuse(frame.number, error)

    def _spoil(self, frame: Frame) -> None:
        """Refuse a frame that seemed whole: it is larger than announced, as of another type."""
        self._whole, self._skipping = None, (frame.number, self._opening.frame.size_bytes)
        frame.is_spoiled = True
        if frame in self._waiting:
            self._waiting.remove(frame)
            self._owed += self._opening.answers_all
            self.release(frame)
        self._refuse(
            frame.number,
            FrameMismatchError(
                f"More bytes came for the frame than the {self._opening.frame.size_bytes} that its "
                "shape and type make.",
                field="frame",
            ),
        )

    def _skip(self, chunk: pb.VoxelChunk) -> None:
        """Bytes of a frame that was refused already; they may be on their way when it is."""
        if self._whole is not None and chunk.frame == self._whole.number:
            self._spoil(self._whole)
        if self._skipping is None or chunk.frame != self._skipping[0]:
            raise LiveProtocolError(
                "Voxels came for a frame that did not begin. Send FrameStart first, then its "
                "chunks.",
                field="frame",
            )
        left = self._skipping[1] - len(chunk.data)
        if left < 0:
            raise CreditExceededError("More bytes came for a frame than it has.")
        self._skipping = (chunk.frame, left)
