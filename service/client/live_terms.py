"""What a live session is opened with, in numpy's words, and the message that says it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import numpy as np

from service.errors import InvalidRequestError
from service.pb import warpline_pb2 as pb

ROLES = {"fixed": pb.REFERENCE_ROLE_FIXED, "moving": pb.REFERENCE_ROLE_MOVING}
FIELDS = {
    "none": pb.FIELD_OUTPUT_NONE,
    "half": pb.FIELD_OUTPUT_HALF,
    "full": pb.FIELD_OUTPUT_FULL,
}
POLICIES = {"latest": pb.FRAME_POLICY_LATEST, "every": pb.FRAME_POLICY_EVERY}
# Little endian on the wire.
DTYPES: "dict[pb.VoxelType, np.dtype[Any]]" = {
    pb.VOXEL_TYPE_UINT8: np.dtype("u1"),
    pb.VOXEL_TYPE_INT16: np.dtype("<i2"),
    pb.VOXEL_TYPE_UINT16: np.dtype("<u2"),
    pb.VOXEL_TYPE_INT32: np.dtype("<i4"),
    pb.VOXEL_TYPE_FLOAT32: np.dtype("<f4"),
    pb.VOXEL_TYPE_FLOAT16: np.dtype("<f2"),
}
SENT_TYPES = {dtype: number for number, dtype in DTYPES.items() if dtype != np.dtype("<f2")}

Shape = tuple[int, int, int]


class LiveTerms(TypedDict, total=False):
    """What may be said when a session is opened. Arrays are (i, j, k), positions world mm, RAS+."""

    role: Literal["fixed", "moving"]
    """What the reference is in each pair; `moving` (the default) carries it over to each frame."""
    labels: np.ndarray
    """The reference's labels, on its grid."""
    mask: np.ndarray
    """Not 0 where the reference counts, on its grid."""
    points: np.ndarray
    """The reference's points, (n, 3)."""
    initial_transform: np.ndarray
    """4x4, from fixed to moving world."""
    frame_shape: Shape
    """Of each frame; as the reference if not given, like the next two."""
    frame_dtype: Any
    frame_affine: np.ndarray
    options: Mapping[str, Any]
    """model, initialise, refine, interpolation, label_interpolation, fill, seed."""
    budget_ms: int
    field: Literal["none", "half", "full"]
    warped_image: bool
    warped_labels: bool
    moved_points: bool
    rigid_only: bool
    policy: Literal["latest", "every"]
    warm_start: bool


@dataclass(frozen=True, eq=False)
class Opening:
    """The message that opens a session, and the voxels that follow it."""

    message: pb.Open
    parts: tuple[tuple["pb.VoxelTarget", np.ndarray], ...]
    frame_shape: Shape
    frame_dtype: np.dtype[Any]

    @classmethod
    def of(cls, reference: np.ndarray, affine: np.ndarray, terms: LiveTerms) -> "Opening":
        """Check and pack.

        Raises:
            InvalidRequestError: If an array has no shape, type or place that can be sent.
        """
        image = sendable(reference, "reference")
        shape = terms.get("frame_shape") or shape_of(image)
        dtype = np.dtype(terms.get("frame_dtype") or image.dtype).newbyteorder("<")
        _require_type(dtype, "frame")
        frame_affine = terms.get("frame_affine")
        message = pb.Open(
            role=ROLES[terms.get("role", "moving")],
            reference=_header(image, affine, "reference"),
            frame=pb.ArrayHeader(
                grid=pb.Grid(
                    shape=shape,
                    affine=rows_of(affine if frame_affine is None else frame_affine, "frame"),
                ),
                voxel_type=type_of(dtype),
            ),
            points=[pb.Point(x=x, y=y, z=z) for x, y, z in _points(terms.get("points"))],
            options=_options(terms.get("options") or {}),
            budget_ms=terms.get("budget_ms", 0),
            outputs=_outputs(terms),
            policy=POLICIES[terms.get("policy", "latest")],
            warm_start=terms.get("warm_start", False),
        )
        if (initial := terms.get("initial_transform")) is not None:
            message.initial_transform.extend(rows_of(initial, "initial_transform"))
        parts = [(pb.VOXEL_TARGET_REFERENCE, image)]
        for name, header, target, array in _beside(terms):
            if array.shape != image.shape:
                raise InvalidRequestError(f"{name} have another shape than the image.", field=name)
            header_of = getattr(message, header)
            header_of.CopyFrom(_header(array, affine, name))
            parts.append((target, array))
        return cls(message, tuple(parts), shape, dtype)

    @property
    def is_every(self) -> bool:
        """Whether every frame is to be answered."""
        return self.message.policy == pb.FRAME_POLICY_EVERY


def _beside(
    terms: LiveTerms,
) -> Iterator[tuple[str, str, "pb.VoxelTarget", np.ndarray]]:
    if (labels := terms.get("labels")) is not None:
        yield "labels", "labels", pb.VOXEL_TARGET_LABELS, sendable(labels, "labels")
    if (mask := terms.get("mask")) is not None:
        yield "mask", "mask", pb.VOXEL_TARGET_MASK, (np.asarray(mask) != 0).astype(np.uint8)


def _outputs(terms: LiveTerms) -> pb.LiveOutputs:
    labels, points = terms.get("labels"), terms.get("points")
    is_moving = terms.get("role", "moving") == "moving"
    return pb.LiveOutputs(
        field=FIELDS[terms.get("field", "none")],
        warped_image=terms.get("warped_image", False),
        warped_labels=terms.get("warped_labels", labels is not None and is_moving),
        points=terms.get("moved_points", points is not None),
        rigid_only=terms.get("rigid_only", False),
    )


def _options(given: Mapping[str, Any]) -> pb.RegisterOptions:
    options = dict(given)
    if "refine" in options:
        options["refine"] = str(options["refine"])
    try:
        return pb.RegisterOptions(**options)
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"An option cannot be: {error}.", field="options") from None


def sendable(array: np.ndarray, field: str) -> np.ndarray:
    """A copy that can be sent as it lies in memory: C order, little endian, a type that is sent.

    float64, and whole numbers that need more than 32 bits, are rounded to float32; other whole
    numbers take the narrowest type.

    Raises:
        InvalidRequestError: If it has not three axes, or no numbers.
    """
    if array.ndim != 3:
        raise InvalidRequestError(f"{field} has {array.ndim} axes; 3 are sent.", field=field)
    dtype = array.dtype.newbyteorder("<")
    if dtype not in SENT_TYPES:
        dtype = _nearest_type(array, field)
    return np.array(array, dtype=dtype, order="C")


def _nearest_type(array: np.ndarray, field: str) -> np.dtype[Any]:
    if array.dtype.kind in "biu":
        low, high = int(array.min(initial=0)), int(array.max(initial=0))
        for name in ("u1", "<i2", "<u2", "<i4"):
            held = np.iinfo(name)
            if held.min <= low and high <= held.max:
                return np.dtype(name)
    if array.dtype.kind in "biuf":
        return np.dtype("<f4")
    raise InvalidRequestError(f"{field} holds {array.dtype}, which is no number.", field=field)


def shape_of(array: np.ndarray) -> Shape:
    """The three lengths."""
    i, j, k = array.shape
    return int(i), int(j), int(k)


def rows_of(matrix: np.ndarray, field: str) -> list[float]:
    """The upper three rows of a 4x4 matrix, row by row.

    Raises:
        InvalidRequestError: If it is none.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise InvalidRequestError(f"The matrix of {field} is no 4x4 of numbers.", field=field)
    rows: list[float] = matrix[:3].ravel().tolist()
    return rows


def matrix_of(rows: Sequence[float]) -> np.ndarray:
    """The 4x4 matrix of 12 values; the identity of none."""
    matrix = np.eye(4)
    if len(rows) == 12:
        matrix[:3] = np.reshape(rows, (3, 4))
    return matrix


def _header(array: np.ndarray, affine: np.ndarray, field: str) -> pb.ArrayHeader:
    grid = pb.Grid(shape=array.shape, affine=rows_of(affine, field))
    return pb.ArrayHeader(grid=grid, voxel_type=type_of(array.dtype))


def type_of(dtype: np.dtype[Any]) -> "pb.VoxelType":
    """What the protocol calls a type of voxels that can be sent."""
    return SENT_TYPES[dtype.newbyteorder("<")]


def _require_type(dtype: np.dtype[Any], field: str) -> None:
    if dtype not in SENT_TYPES:
        raise InvalidRequestError(
            f"{field} is {dtype}; uint8, int16, uint16, int32 or float32 are sent.", field=field
        )


def _points(points: np.ndarray | None) -> list[list[float]]:
    if points is None:
        return []
    array = np.asarray(points, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 3:
        raise InvalidRequestError("Points are an array of shape (n, 3).", field="points")
    rows: list[list[float]] = array.tolist()
    return rows
