"""Between the messages of the protocol and the words of the science."""

from collections.abc import Sequence

import numpy as np
import pydantic
from jaxtyping import Float64

from service.errors import (
    BadAffineError,
    UnsupportedDatatypeError,
    ValidationError,
    VolumeTooLargeError,
)
from service.pb import warpline_pb2 as pb
from service.registration.fields import Affine
from service.registration.files.limits import Limits
from service.registration.files.orientation import sound_grid
from service.registration.grid import Grid
from service.registration.options import RegisterOptions
from service.registration.points import WorldPoints

# Little endian on the wire, whatever this machine is.
DTYPES: dict[int, np.dtype[np.generic]] = {
    pb.VOXEL_TYPE_UINT8: np.dtype("u1"),
    pb.VOXEL_TYPE_INT16: np.dtype("<i2"),
    pb.VOXEL_TYPE_UINT16: np.dtype("<u2"),
    pb.VOXEL_TYPE_INT32: np.dtype("<i4"),
    pb.VOXEL_TYPE_FLOAT32: np.dtype("<f4"),
    pb.VOXEL_TYPE_FLOAT16: np.dtype("<f2"),
}
VOXEL_TYPES = {dtype: pb.VoxelType.Name(number) for number, dtype in DTYPES.items()}
# A message, or one that is serialized already.
Outgoing = pb.LiveResponse | bytes
OPTION_NAMES = tuple(field.name for field in pb.RegisterOptions.DESCRIPTOR.fields)


def dtype_of(header: pb.ArrayHeader, field: str) -> np.dtype[np.generic]:
    """The type of an image's or a label map's voxels.

    Raises:
        UnsupportedDatatypeError: If it is none, or one of fields only.
    """
    dtype = DTYPES.get(header.voxel_type)
    if dtype is None or header.voxel_type == pb.VOXEL_TYPE_FLOAT16:
        raise UnsupportedDatatypeError(
            f"Voxels of {field} are sent as uint8, int16, uint16, int32 or float32.", field=field
        )
    return dtype


def matrix_of(rows: Sequence[float], field: str) -> Float64[np.ndarray, "4 4"]:
    """A 4x4 matrix of its upper three rows, row by row.

    Raises:
        BadAffineError: If there are not 12 values.
    """
    if len(rows) != 12:
        raise BadAffineError(
            f"{field} has {len(rows)} values; send 12, the upper three rows of the matrix.",
            field=field,
        )
    matrix = np.eye(4)
    matrix[:3] = np.reshape(rows, (3, 4))
    return matrix


def rows_of(affine: Float64[np.ndarray, "4 4"]) -> list[float]:
    """The upper three rows, row by row: 12 values."""
    rows: list[float] = affine[:3].ravel().tolist()
    return rows


def grid_of(header: pb.ArrayHeader, field: str, limits: Limits, warnings: list[str]) -> Grid:
    """The grid of an image that is about to come, checked before anything is allocated.

    Raises:
        VolumeTooLargeError: If it has more voxels than are taken.
        BadDimensionsError, BadAffineError, BadSpacingError, ShearedAffineError: See `sound_grid`.
    """
    shape = tuple(header.grid.shape)
    if len(shape) != 3 or min(shape) < 1:
        raise ValidationError(f"{field} needs a shape of three numbers from 1 up.", field=field)
    try:
        limits.require(shape, dtype_of(header, field).itemsize)
    except VolumeTooLargeError as error:
        error.field = field
        raise
    matrix = matrix_of(header.grid.affine, f"{field}.grid.affine")
    return sound_grid((shape[0], shape[1], shape[2]), matrix, warnings)


def header_of(grid: Grid, dtype: np.dtype[np.generic]) -> pb.ArrayHeader:
    """How an array is announced."""
    return pb.ArrayHeader(
        grid=pb.Grid(shape=grid.shape, affine=rows_of(grid.affine)),
        voxel_type=VOXEL_TYPES[dtype],
    )


def affine_of(rows: Sequence[float]) -> Affine:
    """A transform of the world; none given means the identity."""
    return Affine(matrix_of(rows, "initial_transform")) if rows else Affine.identity()


def points_of(points: Sequence[pb.Point]) -> WorldPoints | None:
    """Points of the world, or None where there are none."""
    if not points:
        return None
    return WorldPoints(np.array([(p.x, p.y, p.z) for p in points], dtype=np.float64))


def point_of(position_mm: Sequence[float] | np.ndarray) -> pb.Point:
    """One point of the world."""
    x, y, z = (float(value) for value in position_mm)
    return pb.Point(x=x, y=y, z=z)


def options_of(message: pb.RegisterOptions) -> RegisterOptions:
    """What the caller chose; what is unset takes its default.

    Raises:
        ValidationError: If a value is none that can be chosen; `errors` has a row for each.
    """
    chosen = {name: getattr(message, name) for name in OPTION_NAMES if message.HasField(name)}
    try:
        return RegisterOptions.model_validate(chosen)
    except pydantic.ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        rows = tuple(
            {"field": "options." + ".".join(map(str, fault["loc"])), "detail": fault["msg"]}
            for fault in faults
        )
        raise ValidationError(
            "Some options cannot be chosen as they are.", field="options", errors=rows
        ) from None
