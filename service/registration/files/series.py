"""Time series of volumes in one NIfTI file, frame by frame."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from service.errors import NotOneVolumeError
from service.registration.files.content import Content, opened
from service.registration.files.header import Header, faults_of
from service.registration.files.limits import Limits
from service.registration.files.nifti import START_BYTES, header_of
from service.registration.files.nifti_header import dimensions, is_nifti, parse
from service.registration.files.voxels import native, values_of
from service.registration.volume import Volume


@dataclass(frozen=True, eq=False)
class Series:
    """A series that is open: `count` frames, all on one grid, from the first on."""

    count: int
    header: Header
    _content: Content

    def frames(self) -> Iterator[Volume]:
        """Each frame, once, with the checks and the types of `read_volume`.

        Raises:
            InvalidFileError: Its subclass says what is wrong.
        """
        with faults_of("series"):
            for _ in range(self.count):
                stored = native(self._content.voxels(self.header.voxel_bytes), self.header)
                yield Volume(values_of(stored, self.header, []), self.header.grid)
            self._content.finish()


@contextmanager
def open_series(path: Path, limits: Limits) -> Iterator[Series]:
    """The frames of a 4-D NIfTI file; a single volume is a series of one.

    Args:
        path: Any file; its name is not looked at.
        limits: What is refused as too large, of each frame.

    Raises:
        NotOneVolumeError: If it is no series of volumes.
        InvalidFileError: Its subclass says what else is wrong.
    """
    with faults_of("series"), opened(path) as (content, is_gzipped):
        start = content.peek(START_BYTES)
        if not is_nifti(start):
            raise NotOneVolumeError("The series is not NIfTI (.nii or .nii.gz).")
        raw = parse(start)
        lengths = dimensions(raw)
        while len(lengths) > 4 and lengths[-1] == 1:
            lengths = lengths[:-1]
        if len(lengths) not in (3, 4):
            raise NotOneVolumeError(
                f"The file holds {len(lengths)} dimensions, {lengths}; a series has four: the "
                "volume's three, and time."
            )
        i, j, k, count = (*lengths, 1)[:4]
        header = header_of(raw, (i, j, k), content, limits, is_gzipped=is_gzipped)
        yield Series(count, header, content)
