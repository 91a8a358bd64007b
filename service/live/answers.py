"""Answers to frames: as messages, and kept for a while for who did not see them."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from isal import isal_zlib

from service.live.buffers import chunks_of
from service.live.frames import Frame
from service.live.wire import Outgoing, header_of, point_of, rows_of
from service.pb import warpline_pb2 as pb
from service.registration.grid import Grid
from service.registration.tracked import Tracked, Wanted, in_half_precision
from service.rpc.voxel_chunks import chunk_response

VERDICTS = {"pass": pb.VERDICT_PASS, "warn": pb.VERDICT_WARN, "fail": pb.VERDICT_FAIL}


@dataclass(frozen=True, eq=False)
class Answer:
    """One answer: its head, and its arrays in the head's order."""

    head: pb.FrameAnswer
    arrays: tuple[np.ndarray, ...]

    @property
    def number(self) -> int:
        return int(self.head.number)

    def messages(self) -> Iterator[Outgoing]:
        """The head, then the chunks; each is made when it is its turn."""
        yield pb.LiveResponse(answer=self.head)
        for announced, array in zip(self.head.arrays, self.arrays, strict=True):
            offset = 0
            for data in chunks_of(array):
                chunk = pb.VoxelChunk(
                    target=announced.target,
                    frame=self.number,
                    offset=offset,
                    crc32=isal_zlib.crc32(data),
                )
                yield chunk_response(chunk, data)
                offset += len(data)


def answer_of(frame: Frame, tracked: Tracked, wanted: Wanted) -> Answer:
    """The answer as it will be sent; `latency_ms` and `dropped` are filled in by who knows them."""
    parts = list(_arrays(tracked, wanted))
    head = pb.FrameAnswer(
        number=frame.number,
        acquired_at=frame.acquired_at,
        verdict=VERDICTS[tracked.verdict.status],
        reasons=[*tracked.verdict.reasons, *tracked.warnings],
        motion=pb.Motion(
            shift_mm=point_of(tracked.motion.shift_mm),
            rotation_deg=tracked.motion.rotation_deg,
            median_mm=tracked.motion.median_mm,
            max_mm=tracked.motion.max_mm,
        ),
        affine=rows_of(tracked.affine.matrix),
        rigid=rows_of(tracked.rigid.matrix),
        points=_points(tracked),
        similarity_before=tracked.similarity_before,
        similarity_after=tracked.similarity_after,
        is_cut_short=tracked.is_cut_short,
        arrays=[pb.AnswerArray(target=t, header=header_of(g, a.dtype)) for t, g, a in parts],
    )
    return Answer(head, tuple(array for _, _, array in parts))


def _points(tracked: Tracked) -> list[pb.Point]:
    return [] if tracked.points is None else [point_of(p) for p in tracked.points.positions_mm]


def _arrays(tracked: Tracked, wanted: Wanted) -> Iterator[tuple[pb.VoxelTarget, Grid, np.ndarray]]:
    """Target, grid and values of what an answer brings, C-contiguous and little endian."""
    if (field := tracked.field) is not None:
        is_half = wanted.field == "half"
        vectors = in_half_precision(field) if is_half else field.vectors_mm
        yield pb.VOXEL_TARGET_FIELD, field.grid, _sendable(vectors)
    if (image := tracked.warped_image) is not None:
        values = _sendable(image.data.astype(np.float32, copy=False))
        yield pb.VOXEL_TARGET_WARPED_IMAGE, image.grid, values
    if (labels := tracked.warped_labels) is not None:
        yield pb.VOXEL_TARGET_WARPED_LABELS, labels.grid, _sendable(labels.data)


def _sendable(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))


class AnswerRing:
    """The newest answers, at most `room`: those to be sent, and those sent that may be lost."""

    def __init__(self, room: int, keeps_unsent: bool) -> None:
        """Make an empty ring.

        Args:
            room: Answers that are kept.
            keeps_unsent: Whether `is_full` stops the work before one is lost that was never sent;
                else the oldest goes.
        """
        self._answers: deque[Answer] = deque()
        self._room = room
        self._keeps_unsent = keeps_unsent
        self._unsent = 0

    @property
    def newest(self) -> int:
        """The number of the newest answer; 0 without one."""
        return self._answers[-1].number if self._answers else 0

    @property
    def is_full(self) -> bool:
        """Whether another answer would push out one that must not be lost."""
        return self._keeps_unsent and self._unsent >= self._room

    @property
    def has_unsent(self) -> bool:
        return self._unsent > 0

    def add(self, answer: Answer) -> Answer | None:
        """Keep an answer; gives the one that is lost unsent for it, if one is."""
        self._answers.append(answer)
        self._unsent += 1
        if len(self._answers) <= self._room:
            return None
        oldest = self._answers.popleft()
        if self._unsent <= self._room:
            return None
        self._unsent -= 1
        return oldest

    def next(self) -> Answer | None:
        """The oldest answer that was not sent; it counts as sent now."""
        if self._unsent == 0:
            return None
        answer = self._answers[-self._unsent]
        self._unsent -= 1
        return answer

    def rewind(self, last_seen: int) -> None:
        """Send again what is newer than an answer that has been seen; forget the others."""
        while self._answers and self._answers[0].number <= last_seen:
            self._answers.popleft()
        self._unsent = len(self._answers)
