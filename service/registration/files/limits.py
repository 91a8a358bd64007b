"""How large a volume may be."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.errors import VolumeTooLargeError


@dataclass(frozen=True)
class Limits:
    """What is refused from the header alone, before anything is allocated.

    `max_bytes` is the size of the voxels as the file stores them, decompressed.
    """

    max_voxels: int = 512**3
    max_axis: int = 2048
    max_bytes: int = 2 << 30

    def require(self, shape: Sequence[int], itemsize: int) -> int:
        """The bytes that so many voxels take, in Python integers, which cannot overflow.

        Raises:
            VolumeTooLargeError: If a limit is passed.
        """
        voxels = 1
        for length in shape:
            voxels *= int(length)
        if max(shape) > self.max_axis:
            raise VolumeTooLargeError(
                f"The file announces {max(shape)} voxels along one axis; this service takes up to "
                f"{self.max_axis}. Crop or downsample the volume."
            )
        if voxels > self.max_voxels:
            raise VolumeTooLargeError(
                f"The file announces {voxels} voxels; this service takes up to {self.max_voxels}. "
                "Crop or downsample the volume."
            )
        if voxels * itemsize > self.max_bytes:
            raise VolumeTooLargeError(
                f"The file announces {voxels * itemsize} bytes of voxels; this service takes up to "
                f"{self.max_bytes}. Store them in a smaller type, or crop the volume."
            )
        return voxels * itemsize
