"""Answers of a live session: assembled from their chunks, as numpy arrays."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
from isal import isal_zlib

from service.client.live_terms import DTYPES, matrix_of
from service.errors import ChecksumMismatchError, ChunkOrderError
from service.pb import warpline_pb2 as pb

VERDICTS = {pb.VERDICT_PASS: "pass", pb.VERDICT_WARN: "warn", pb.VERDICT_FAIL: "fail"}
NAMES = {
    pb.VOXEL_TARGET_FIELD: "field",
    pb.VOXEL_TARGET_WARPED_IMAGE: "warped_image",
    pb.VOXEL_TARGET_WARPED_LABELS: "warped_labels",
}


@dataclass(frozen=True, eq=False)
class Placed:
    """An array and where it lies: the 4x4 matrix from voxel index to world mm, RAS+."""

    data: np.ndarray
    affine: np.ndarray


@dataclass(frozen=True, eq=False, kw_only=True)
class LiveAnswer:
    """What is known of one frame.

    `latency_ms` is the server's, from the frame's last byte to its answer; `round_trip_ms` is from
    `send` to the answer's last byte. `affine` and `rigid` go from fixed to moving world mm.
    `field` holds displacements in mm, RAS+, on the fixed grid (i, j, k, 3), affine included.
    """

    number: int
    acquired_at: datetime | None
    latency_ms: float
    round_trip_ms: float
    stages_ms: Mapping[str, float]
    verdict: str
    reasons: tuple[str, ...]
    shift_mm: np.ndarray
    rotation_deg: float
    median_mm: float
    max_mm: float
    affine: np.ndarray
    rigid: np.ndarray
    points: np.ndarray
    similarity_before: float
    similarity_after: float
    is_cut_short: bool
    field: Placed | None = None
    warped_image: Placed | None = None
    warped_labels: Placed | None = None


@dataclass
class Arriving:
    """An answer whose arrays are on their way."""

    head: pb.FrameAnswer
    _arrays: dict[int, np.ndarray] = field(default_factory=dict)
    _current: int = 0
    _reached: int = 0

    @property
    def is_whole(self) -> bool:
        return self._current == len(self.head.arrays)

    def take(self, chunk: pb.VoxelChunk) -> None:
        """Take the next bytes.

        Raises:
            ChunkOrderError: If they belong elsewhere.
            ChecksumMismatchError: If they are not what was sent.
        """
        if self.is_whole or chunk.frame != self.head.number:
            raise ChunkOrderError("A part of an answer came that belongs to none.")
        announced = self.head.arrays[self._current]
        room = self._arrays.setdefault(announced.target, _room(announced))
        flat = room.reshape(-1).view(np.uint8)
        end = self._reached + len(chunk.data)
        if (chunk.target, chunk.offset) != (announced.target, self._reached) or end > flat.size:
            raise ChunkOrderError("A part of an answer does not go on where the last one ended.")
        if isal_zlib.crc32(chunk.data) != chunk.crc32:
            raise ChecksumMismatchError("A part of an answer arrived damaged.")
        flat[self._reached : end] = np.frombuffer(chunk.data, np.uint8)
        self._reached = end
        if end == flat.size:
            self._current, self._reached = self._current + 1, 0

    def answer(self, round_trip_ms: float) -> LiveAnswer:
        """The whole answer."""
        head = self.head
        arrays = {
            NAMES[one.target]: Placed(self._arrays[one.target], matrix_of(one.header.grid.affine))
            for one in head.arrays
            if one.target in NAMES
        }
        shift, moved = head.motion.shift_mm, [(p.x, p.y, p.z) for p in head.points]
        return LiveAnswer(
            number=head.number,
            acquired_at=head.acquired_at.ToDatetime(UTC) if head.HasField("acquired_at") else None,
            latency_ms=head.latency_ms,
            round_trip_ms=round_trip_ms,
            stages_ms={stage.name: stage.ms for stage in head.stages},
            verdict=VERDICTS.get(head.verdict, "fail"),
            reasons=tuple(head.reasons),
            shift_mm=np.array([shift.x, shift.y, shift.z]),
            rotation_deg=head.motion.rotation_deg,
            median_mm=head.motion.median_mm,
            max_mm=head.motion.max_mm,
            affine=matrix_of(head.affine),
            rigid=matrix_of(head.rigid),
            points=np.array(moved, dtype=np.float64).reshape(-1, 3),
            similarity_before=head.similarity_before,
            similarity_after=head.similarity_after,
            is_cut_short=head.is_cut_short,
            **arrays,
        )


def _room(announced: pb.AnswerArray) -> np.ndarray:
    shape = tuple(announced.header.grid.shape)
    if announced.target == pb.VOXEL_TARGET_FIELD and len(shape) == 3:
        shape = (*shape, 3)
    return np.empty(shape, DTYPES[announced.header.voxel_type])
