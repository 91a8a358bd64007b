"""From IMAGE messages to frames: sub-volumes are put together, voxels get a type of a session."""

from dataclasses import dataclass, field

import numpy as np

from service.errors import IgtlImageError
from service.igtl.image import Part
from service.registration.grid import Matrix4

# Types that a session takes as they are, and what the others become without loss (float64 and
# uint32 above 2**24: to seven digits).
TAKEN = frozenset(map(np.dtype, (np.uint8, np.int16, np.uint16, np.int32, np.float32)))
WIDER: dict[np.dtype[np.generic], type[np.generic]] = {
    np.dtype(np.int8): np.int16,
    np.dtype(np.uint32): np.float32,
    np.dtype(np.float64): np.float32,
}
SAME_SPACING = 1e-4  # relative; a message rounds to seven digits
FEWEST_VOXELS = 2  # along an axis; one slice is no volume


@dataclass(frozen=True, eq=False)
class Frame:
    """A volume as a session takes it: axes k, j, i, and when it was acquired."""

    voxels: np.ndarray
    affine: Matrix4  # index (k, j, i) to world mm, RAS+
    stamp: int  # of OpenIGTLink; 0 if unused

    @property
    def spacing_mm(self) -> np.ndarray:
        """Distance between neighbouring voxel centres along k, j and i."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0))

    def is_like(self, other: "Frame") -> bool:
        """Whether both can be frames of one session: shape, type and spacing, not the place."""
        return (
            self.voxels.shape == other.voxels.shape
            and self.voxels.dtype == other.voxels.dtype
            and bool(np.allclose(self.spacing_mm, other.spacing_mm, rtol=SAME_SPACING, atol=0))
        )


@dataclass
class Canvas:
    """Puts sub-volumes together.

    Nothing in a message says that an image is complete. It is taken to be when every voxel has
    come once since the last frame; an image of another size, type or place begins anew.
    """

    _whole: Part | None = None
    _is_here: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))

    def add(self, part: Part) -> Part | None:
        """The whole image, if this part completes it."""
        if part.is_whole:
            self._whole = None
            return part
        if self._whole is None or not _fits(part, self._whole):
            shape = (*part.shape, *part.voxels.shape[3:])
            blank = np.zeros(shape, part.voxels.dtype)
            self._whole = Part(blank, (0, 0, 0), part.shape, part.affine)
            self._is_here = np.zeros(part.shape, bool)
        box = tuple(
            slice(start, start + size)
            for start, size in zip(part.offset, part.voxels.shape[:3], strict=True)
        )
        self._whole.voxels[box] = part.voxels
        self._is_here[box] = True
        if not self._is_here.all():
            return None
        self._is_here[:] = False
        return Part(self._whole.voxels.copy(), (0, 0, 0), part.shape, part.affine)


def _fits(part: Part, whole: Part) -> bool:
    return (
        part.shape == whole.shape
        and part.voxels.dtype == whole.voxels.dtype
        and part.voxels.shape[3:] == whole.voxels.shape[3:]
        and np.array_equal(part.affine, whole.affine)
    )


def frame_of(image: Part, stamp: int) -> Frame:
    """The frame of a whole image; voxels that are not finite become 0.

    Raises:
        IgtlImageError: If a voxel has several components, or the image is a single slice.
    """
    if image.voxels.ndim != 3:
        raise IgtlImageError(
            f"The image has {image.voxels.shape[3]} components; a frame has one. Send it in grey."
        )
    if min(image.shape) < FEWEST_VOXELS:
        raise IgtlImageError(
            f"The image has {image.shape} voxels (axes k, j, i); a frame is a volume. Send volumes "
            "instead of slices, such as those of a volume reconstruction."
        )
    return Frame(taken(image.voxels), image.affine, stamp)


def taken(voxels: np.ndarray) -> np.ndarray:
    """The voxels in native byte order and a type that a session takes."""
    native = voxels.dtype.newbyteorder("=")
    wanted = np.dtype(WIDER.get(native, native.type))
    if wanted not in TAKEN:
        wanted = np.dtype(np.float32)
    given = voxels.astype(wanted, copy=False)
    if wanted.kind == "f" and not np.isfinite(given).all():
        return np.where(np.isfinite(given), given, np.float32(0))
    return given
