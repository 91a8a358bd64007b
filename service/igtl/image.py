"""The content of IMAGE: voxels and where they lie.

On the wire the voxel index i runs fastest; here an image is an array with axes k, j, i (and
components), which is the same bytes in C order, and `affine` belongs to these axes: its columns
are the steps along k, j, i and the place of the first voxel, world millimetres, RAS+. Nothing is
copied or turned over on the way in or out.

The wire's matrix has the steps along i, j, k (direction times spacing) and the place of the
image's centre, which lies at index (n - 1) / 2: between two voxels where n is even. It is in RAS
or LPS, as a field of the header says.

Source: OpenIGTLink, Documents/Protocol/image.md; the centre as OpenIGTLinkIO's
igtlioConverterUtilities and pyigtl have it.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from service.errors import IgtlImageError, IgtlLengthError, IgtlTooLargeError
from service.registration.grid import Matrix4

HEAD = struct.Struct(">HBBBB3H12f3H3H")

SCALARS: Mapping[int, type[np.generic]] = {
    2: np.int8,
    3: np.uint8,
    4: np.int16,
    5: np.uint16,
    6: np.int32,
    7: np.uint32,
    10: np.float32,
    11: np.float64,
}
CODES = {np.dtype(scalar): code for code, scalar in SCALARS.items()}
BIG, LITTLE = 1, 2
RAS, LPS = 1, 2
# Libraries before 2013 wrote LPS as 0 (OpenIGTLink pull request 12).
OLD_LPS = 0

Coordinates = Literal["header", "ras", "lps"]
Shape = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Part:
    """A box of an image: all of it, or a sub-volume that is sent alone. Axes k, j, i."""

    voxels: np.ndarray  # the box, axes k, j, i or k, j, i, component
    offset: Shape  # of the box in the whole image
    shape: Shape  # of the whole image
    affine: Matrix4  # of the whole image, index (k, j, i) to world mm, RAS+

    @property
    def is_whole(self) -> bool:
        return self.voxels.shape[:3] == self.shape


@dataclass(frozen=True)
class _Head:
    components: int
    scalar: np.dtype[np.generic]
    is_lps: bool
    shape: Shape
    matrix: tuple[float, ...]
    offset: Shape
    box: Shape


def unpack_image(
    content: bytes | memoryview, most_bytes: int, read: Coordinates = "header"
) -> Part:
    """What an IMAGE message holds.

    Args:
        content: Of the message. The voxels are looked at where they are.
        most_bytes: Largest size of the whole image, of which a part may be all that comes.
        read: Whether the matrix is in RAS or LPS, if not as its header says: 3D Slicer, for one,
            ignores what the header says and takes it as RAS.

    Raises:
        IgtlImageError: If a code is unknown or the matrix is none of an image.
        IgtlLengthError: If the voxels are more or fewer than the header says, or lie outside.
        IgtlTooLargeError: If the whole image has more than `most_bytes`.
    """
    if len(content) < HEAD.size:
        raise IgtlLengthError(f"An image of {len(content)} bytes is too short for its header.")
    head = _checked(HEAD.unpack_from(content))
    itemsize = head.scalar.itemsize * head.components
    _require_lengths(head, len(content) - HEAD.size, itemsize, most_bytes)
    voxels = np.frombuffer(content, head.scalar, offset=HEAD.size)
    shape = head.box if head.components == 1 else (*head.box, head.components)
    is_lps = head.is_lps if read == "header" else read == "lps"
    affine = _affine(head.matrix, head.shape, is_lps=is_lps)
    return Part(voxels.reshape(shape), head.offset, head.shape, affine)


def _checked(values: tuple[float, ...]) -> _Head:
    version, components, scalar, endian, space = (int(value) for value in values[:5])
    if version != 1:
        raise IgtlImageError(f"The image has format version {version}; only 1 is known.")
    if scalar not in SCALARS or endian not in (BIG, LITTLE) or space not in (RAS, LPS, OLD_LPS):
        raise IgtlImageError(
            f"The image states scalar type {scalar}, byte order {endian} and coordinate system "
            f"{space}, of which one has no meaning."
        )
    if components < 1:
        raise IgtlImageError("The image states that a voxel has no component.")
    order: Literal[">", "<"] = ">" if endian == BIG else "<"
    return _Head(
        components,
        np.dtype(SCALARS[scalar]).newbyteorder(order),
        is_lps=space != RAS,
        shape=_reversed(values[5:8]),
        matrix=tuple(values[8:20]),
        offset=_reversed(values[20:23]),
        box=_reversed(values[23:26]),
    )


def _reversed(ijk: tuple[float, ...]) -> Shape:
    return int(ijk[2]), int(ijk[1]), int(ijk[0])


def _require_lengths(head: _Head, voxel_bytes: int, itemsize: int, most_bytes: int) -> None:
    if min(head.box) < 1 or any(
        start + size > whole
        for start, size, whole in zip(head.offset, head.box, head.shape, strict=True)
    ):
        raise IgtlLengthError(
            f"A box of {head.box} voxels at {head.offset} is no part of an image of {head.shape} "
            "(axes k, j, i)."
        )
    if _count(head.shape) * itemsize > most_bytes:
        raise IgtlTooLargeError(
            f"An image of {head.shape} voxels (axes k, j, i) has more than {most_bytes} bytes."
        )
    if voxel_bytes != _count(head.box) * itemsize:
        raise IgtlLengthError(
            f"The header announces {_count(head.box) * itemsize} bytes of voxels, "
            f"{voxel_bytes} came."
        )


def _count(shape: Shape) -> int:
    return shape[0] * shape[1] * shape[2]


def _affine(matrix: tuple[float, ...], shape: Shape, *, is_lps: bool) -> Matrix4:
    """Index (k, j, i) to world mm, RAS+, of the wire's matrix: steps along i, j, k and centre."""
    affine = np.eye(4)
    affine[:3] = np.reshape(matrix, (4, 3)).T[:, [2, 1, 0, 3]]
    steps = affine[:3, :3]
    if not np.isfinite(affine).all() or abs(np.linalg.det(steps)) < 1e-9:
        raise IgtlImageError(
            "The image's matrix is not finite, or two of its axes have the same direction."
        )
    affine[:3, 3] -= steps @ ((np.array(shape) - 1) / 2)
    if is_lps:
        affine[:2] *= -1
    return affine


def pack_image(voxels: np.ndarray, affine: Matrix4) -> bytes:
    """The content of an IMAGE message, little endian, in RAS.

    Args:
        voxels: Axes k, j, i, or k, j, i, component; a type that OpenIGTLink has.
        affine: Index (k, j, i) to world mm, RAS+. Rounded to float32, as the message has it.

    Raises:
        IgtlImageError: If the type has no code, or an axis has more than 65535 voxels.
    """
    shape = voxels.shape[:3]
    native = voxels.dtype.newbyteorder("=")
    if native not in CODES or max(voxels.shape) > 0xFFFF:
        raise IgtlImageError(f"{voxels.shape} voxels of {native} have no place in an IMAGE.")
    matrix = np.asarray(affine, np.float64)[:3].copy()
    matrix[:, 3] += matrix[:, :3] @ ((np.array(shape) - 1) / 2)
    size = shape[::-1]
    components = voxels.shape[3] if voxels.ndim == 4 else 1
    head = HEAD.pack(
        1, components, CODES[native], LITTLE, RAS, *size, *matrix[:, [2, 1, 0, 3]].T.ravel(),
        0, 0, 0, *size,
    )  # fmt: skip
    return head + np.ascontiguousarray(voxels, native.newbyteorder("<")).tobytes()
