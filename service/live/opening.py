"""What a client asks for when it opens a session, checked before anything is allocated."""

from dataclasses import dataclass, field
from math import prod
from typing import Final

import numpy as np

from service.errors import (
    FrameMismatchError,
    GridMismatchError,
    InvalidRequestError,
    UnsupportedDatatypeError,
    ValidationError,
)
from service.live.wire import (
    DTYPES,
    affine_of,
    dtype_of,
    grid_of,
    matrix_of,
    options_of,
    points_of,
)
from service.pb import warpline_pb2 as pb
from service.registration.fields import Affine
from service.registration.files.limits import Limits
from service.registration.files.orientation import sound_grid
from service.registration.grid import Grid
from service.registration.options import RegisterOptions
from service.registration.points import WorldPoints
from service.registration.tracked import FieldWanted, Role, Wanted, half_grid
from service.settings import Settings

ROLES: Final[dict[int, Role]] = {
    pb.REFERENCE_ROLE_FIXED: "fixed",
    pb.REFERENCE_ROLE_MOVING: "moving",
}
FIELDS: Final[dict[int, FieldWanted]] = {
    pb.FIELD_OUTPUT_UNSPECIFIED: "none",
    pb.FIELD_OUTPUT_NONE: "none",
    pb.FIELD_OUTPUT_FULL: "full",
    pb.FIELD_OUTPUT_HALF: "half",
}
# Beside its buffers a session holds its reference as float32, features and pyramids of it.
PREPARED_BYTES_PER_VOXEL = 16
# A frame's spacing may differ from the announced one by rounding only.
SPACING_TOLERANCE = 1e-3


@dataclass(frozen=True)
class LiveLimits:
    """What one session may ask for."""

    voxels: Limits
    max_points: int
    waiting_frames: int
    kept_answers: int
    kept_bytes: int

    @classmethod
    def of(cls, config: Settings) -> "LiveLimits":
        voxels = min(config.live_max_voxels, config.max_voxels)
        return cls(
            Limits(max_voxels=voxels, max_axis=config.max_axis),
            config.live_max_points,
            config.live_waiting_frames,
            config.live_kept_answers,
            config.live_kept_mib << 20,
        )


@dataclass(frozen=True, eq=False)
class Layout:
    """Where voxels lie and how they are stored."""

    grid: Grid
    dtype: np.dtype[np.generic]

    @property
    def size_bytes(self) -> int:
        return prod(self.grid.shape) * self.dtype.itemsize


@dataclass(frozen=True, eq=False, kw_only=True)
class Opening:
    """A valid wish for a session."""

    role: Role
    reference: Layout
    labels: Layout | None
    mask: Layout | None
    points: WorldPoints | None
    frame: Layout
    initial: Affine
    options: RegisterOptions
    budget_s: float | None
    wanted: Wanted
    answers_all: bool
    warm_start: bool
    frame_buffers: int
    kept_answers: int
    warnings: list[str] = field(default_factory=list)

    @property
    def fixed_grid(self) -> Grid:
        """What answers lie on."""
        return self.reference.grid if self.role == "fixed" else self.frame.grid

    @property
    def reference_bytes(self) -> int:
        """All that comes before the first frame."""
        parts = (self.reference, self.labels, self.mask)
        return sum(part.size_bytes for part in parts if part is not None)

    @property
    def memory_bytes(self) -> int:
        """What the session may hold at most, by our own reckoning."""
        voxels = self.reference.grid.voxel_count + self.frame.grid.voxel_count
        frames = self.frame_buffers * self.frame.size_bytes
        answers = self.kept_answers * answer_bytes(self.fixed_grid, self.wanted)
        return self.reference_bytes + voxels * PREPARED_BYTES_PER_VOXEL + frames + answers

    def frame_bytes(self, start: "pb.FrameStart") -> int:
        """Bytes of a frame as it says itself, or else as the session said."""
        dtype = DTYPES.get(start.voxel_type, self.frame.dtype)
        return prod(start.shape or self.frame.grid.shape) * dtype.itemsize

    def frame_grid(self, start: "pb.FrameStart") -> Grid:
        """Where a frame lies: where it says, or else where the session said.

        Raises:
            FrameMismatchError: If type, shape or spacing is another one than was announced.
            BadAffineError, BadSpacingError, ShearedAffineError: See `sound_grid`.
        """
        self._require_layout(start)
        if not start.affine:
            return self.frame.grid
        matrix = matrix_of(start.affine, "frame.affine")
        grid = sound_grid(self.frame.grid.shape, matrix, [])
        if not np.allclose(grid.spacing_mm, self.frame.grid.spacing_mm, rtol=SPACING_TOLERANCE):
            raise FrameMismatchError(
                "The frame has another voxel spacing than the session announced. Frames may move "
                "and turn; for another grid open another session.",
                field="frame.affine",
            )
        return grid

    def _require_layout(self, start: "pb.FrameStart") -> None:
        """Bytes alone cannot tell int16 from uint16, nor one shape from another of its size."""
        announced = self.frame
        if start.voxel_type and DTYPES.get(start.voxel_type) != announced.dtype:
            raise FrameMismatchError(
                "The frame has voxels of another type than the session announced, which is "
                f"{announced.dtype.name}. For another type open another session.",
                field="frame.voxel_type",
            )
        if start.shape and tuple(start.shape) != announced.grid.shape:
            raise FrameMismatchError(
                "The frame has another shape than the session announced, which is "
                f"{announced.grid.shape}. For another grid open another session.",
                field="frame.shape",
            )


def read_open(message: pb.Open, limits: LiveLimits) -> Opening:
    """The wish behind an Open.

    Raises:
        InvalidRequestError: If something is missing or cannot be; `field` says what.
    """
    warnings: list[str] = []
    role = ROLES.get(message.role)
    if role is None:
        raise ValidationError("Say what the reference is: fixed or moving.", field="role")
    for name in ("reference", "frame"):
        if not message.HasField(name):
            raise ValidationError(f"{name} is missing: grid and type of its voxels.", field=name)
    if len(message.points) > limits.max_points:
        raise ValidationError(f"At most {limits.max_points} points are taken.", field="points")
    reference = _layout(message.reference, "reference", limits, warnings)
    frame = _layout(message.frame, "frame", limits, warnings)
    labels = _beside(message, "labels", reference, limits)
    wanted = _wanted(message, labels, role)
    every = message.policy == pb.FRAME_POLICY_EVERY
    one = max(1, answer_bytes(reference.grid if role == "fixed" else frame.grid, wanted))
    return Opening(
        role=role,
        reference=reference,
        labels=labels,
        mask=_beside(message, "mask", reference, limits),
        points=points_of(message.points),
        frame=frame,
        initial=affine_of(message.initial_transform),
        options=options_of(message.options),
        budget_s=message.budget_ms / 1000 if message.budget_ms else None,
        wanted=wanted,
        answers_all=every,
        warm_start=message.warm_start,
        # One is filled, one waits, one is registered.
        frame_buffers=limits.waiting_frames + 1 if every else 3,
        kept_answers=min(limits.kept_answers, max(1, limits.kept_bytes // one)),
        warnings=warnings,
    )


def answer_bytes(fixed: Grid, wanted: Wanted) -> int:
    """Bytes of one answer's arrays."""
    voxels = fixed.voxel_count
    fields = {"none": 0, "full": 12 * voxels, "half": 6 * half_grid(fixed).voxel_count}
    return fields[wanted.field] + (4 * wanted.warped_image + 2 * wanted.warped_labels) * voxels


def _layout(header: pb.ArrayHeader, field: str, limits: LiveLimits, warnings: list[str]) -> Layout:
    dtype = dtype_of(header, field)
    return Layout(grid_of(header, field, limits.voxels, warnings), dtype)


def _beside(message: pb.Open, name: str, reference: Layout, limits: LiveLimits) -> Layout | None:
    """Labels or a mask, which lie on the reference's grid."""
    if not message.HasField(name):
        return None
    layout = _layout(getattr(message, name), name, limits, [])
    if not np.issubdtype(layout.dtype, np.integer):
        raise UnsupportedDatatypeError(f"{name} are whole numbers.", field=name)
    if not layout.grid.is_same(reference.grid):
        raise GridMismatchError(f"{name} must lie on the reference's grid.", field=name)
    return Layout(reference.grid, layout.dtype)


def _wanted(message: pb.Open, labels: Layout | None, role: Role) -> Wanted:
    outputs = message.outputs
    if outputs.warped_labels and labels is None:
        raise InvalidRequestError(
            "Warped labels are wanted, but no labels of the reference are sent.", field="outputs"
        )
    if outputs.warped_labels and role == "fixed":
        raise InvalidRequestError(
            "Labels of the moving image are warped, and here that is the frame. Make the "
            "reference the moving image to carry its labels over.",
            field="outputs",
        )
    if outputs.points and not message.points:
        raise InvalidRequestError("Points are wanted, but none are sent.", field="outputs")
    return Wanted(
        field=FIELDS.get(outputs.field, "none"),
        warped_image=outputs.warped_image,
        warped_labels=outputs.warped_labels,
        points=outputs.points,
        rigid_only=outputs.rigid_only,
    )
