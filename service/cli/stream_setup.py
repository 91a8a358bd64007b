"""What `warpline stream` is made of: the reference, where frames come from, the session's terms."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from service.cli import screen
from service.cli.scanner import Acquired, Timing, play
from service.cli.watched_folder import WatchedFolder
from service.client.live_terms import LiveTerms
from service.errors import (
    GzipChecksumError,
    InvalidFileError,
    TruncatedFileError,
    ValidationError,
)
from service.registration.files.affine_text import read_affine
from service.registration.files.limits import Limits
from service.registration.files.points_file import read_points
from service.registration.files.series import open_series
from service.registration.files.volume_file import read_label_map, read_volume
from service.registration.points import WorldPoints
from service.registration.volume import Volume, require_same_grid
from service.settings import Settings

Role = Literal["fixed", "moving"]
INCOMPLETE = (TruncatedFileError, GzipChecksumError)


@dataclass(frozen=True, kw_only=True)
class Said:
    """What was said on the command line, checked there."""

    reference: Path
    watch: Path | None
    series: Path | None
    synthetic: int | None
    timing: Timing
    labels: Path | None
    mask: Path | None
    points: Path | None
    initial_transform: Path | None
    role: Role
    budget_ms: int
    every: bool
    warm_start: bool
    rigid_only: bool
    field: Literal["none", "half", "full"]
    warped_image: bool
    options: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Prepared:
    """What was read: the reference, what lies beside it, and frames as they come."""

    reference: Volume
    labels: Volume | None
    mask: Volume | None
    points: WorldPoints | None
    terms: LiveTerms

    def terms_for(self, frame: Volume) -> LiveTerms:
        """The session's terms, for frames like this one."""
        i, j, k = frame.grid.shape
        return {
            **self.terms,
            "frame_shape": (i, j, k),
            "frame_dtype": sent_type(frame.data.dtype),
            "frame_affine": frame.grid.affine,
        }


def prepare(said: Said, limits: Limits) -> Prepared:
    """Read the reference and what comes with it.

    Raises:
        InvalidFileError: If a file cannot be read.
        GridMismatchError: If labels or mask lie elsewhere than the reference.
    """
    volume = read_volume(said.reference, limits, "reference")
    beside = {}
    for name, path in (("labels", said.labels), ("mask", said.mask)):
        beside[name] = None if path is None else read_label_map(path, limits, name)
        if (found := beside[name]) is not None:
            require_same_grid(found, volume, name)
    points = None if said.points is None else read_points(said.points)
    terms: LiveTerms = {
        "role": said.role,
        "budget_ms": said.budget_ms,
        "policy": "every" if said.every else "latest",
        "warm_start": said.warm_start,
        "rigid_only": said.rigid_only,
        "field": said.field,
        "warped_image": said.warped_image,
        "options": {name: value for name, value in said.options.items() if value is not None},
    }
    for name, found in beside.items():
        if found is not None:
            terms[name] = found.data  # type: ignore[literal-required]
    if points is not None:
        terms["points"] = points.positions_mm
    if said.initial_transform is not None:
        terms["initial_transform"] = read_affine(said.initial_transform).matrix
    return Prepared(volume, beside["labels"], beside["mask"], points, terms)


def limits_here() -> Limits:
    """What is refused as too large."""
    settings = Settings()
    return Limits(settings.max_voxels, settings.max_axis)


@dataclass(frozen=True, eq=False)
class Source:
    """Frames as they come, once the session is ready; `first` looks like all of them."""

    first: Volume
    frames: Callable[[], Iterator[Acquired]]


@contextmanager
def open_source(said: Said, prepared: Prepared, limits: Limits) -> Iterator[Source]:
    """Where frames come from. Of a watched folder nothing is known before its first file."""
    if said.series is not None:
        with open_series(said.series, limits) as series:
            yield played(series.frames(), series.count, said.timing)
    elif said.watch is not None:
        coming = watched(said.watch, limits).frames()
        first = next(coming)
        yield Source(first.volume, lambda: itertools.chain([first], coming))
    else:
        made = synthetic(prepared.reference, said.role, said.synthetic or 1)
        yield played(iter(made), len(made), said.timing)


def played(frames: Iterator[Volume], count: int, timing: Timing) -> Source:
    """Frames as a scanner would make them; of a series they are read before they are due."""
    first = next(frames)
    return Source(first, lambda: play(itertools.chain([first], frames), count, timing))


def synthetic(reference: Volume, role: Role, count: int) -> list[Volume]:
    """Frames made of the reference: moved and bent a little more or less each time."""
    from service.registration.rehearsal import rehearsal_frames
    from service.registration.tracked import Reference

    return list(rehearsal_frames(Reference(reference), reference.grid, role, count))


def watched(folder: Path, limits: Limits) -> WatchedFolder:
    """New files of a folder."""

    def read(path: Path) -> Volume | None:
        try:
            return read_volume(path, limits, "frame")
        except INCOMPLETE:
            return None
        except (InvalidFileError, OSError) as error:
            screen.note(f"{path.name} is passed over: {error}")
            return None

    made = WatchedFolder(folder, read)
    made.forget_what_is_there()
    return made


def sent_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type in which voxels of a file are sent."""
    known = ("u1", "<i2", "<u2", "<i4", "<f4")
    found = next((np.dtype(name) for name in known if np.dtype(name) == dtype), None)
    return found if found is not None else np.dtype("<f4")


def as_announced(volume: Volume, terms: LiveTerms) -> np.ndarray:
    """A frame's voxels in the type that the session was opened for.

    Raises:
        ValidationError: If they do not fit into it.
    """
    wanted = np.dtype(terms["frame_dtype"])
    if volume.data.dtype == wanted:
        return volume.data
    if not np.can_cast(volume.data.dtype, wanted, "same_kind"):
        raise ValidationError(
            f"The frame holds {volume.data.dtype}, the first one held {wanted}.", field="frame"
        )
    return volume.data.astype(wanted)
