"""What a model is measured on: pairs, as files that the serving pipeline reads."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from service.checksums import sha256_of
from service.errors import TrainingDataError
from service.registration.files.points_file import write_points
from service.registration.files.volume_file import write_volume
from service.registration.volume import Volume
from trainer.data.cases import Case, Source
from trainer.data.dataset import AcquiredPairs, matched
from trainer.data.reading import (
    Labels,
    Spacing,
    read_image,
    read_labels,
    read_landmarks,
    read_mask,
)
from trainer.data.stacks import is_stack

UNIT_MM: Spacing = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class EvaluationCase:
    """One pair: images, and what there is to measure by.

    Labels are label maps, or 4-D files of one label each, which may overlap. Points correspond by
    name, or row by row.
    """

    name: str
    fixed: Source
    moving: Source
    fixed_labels: Source | None = None
    moving_labels: Source | None = None
    fixed_points: Source | None = None
    moving_points: Source | None = None
    fixed_mask: Source | None = None
    moving_mask: Source | None = None
    spacing_mm: Spacing = UNIT_MM  # of HDF5 data sets that do not say

    @classmethod
    def of_files(cls, name: str, **roles: Path | None) -> "EvaluationCase":
        """A case of plain files by role."""
        found = {r: Source(path, path.name) for r, path in roles.items() if path is not None}
        return cls(name, **found)  # type: ignore[arg-type]

    def sources(self) -> dict[str, Source]:
        """What there is, by role."""
        found = {part.name: getattr(self, part.name) for part in fields(self)}
        return {role: value for role, value in found.items() if isinstance(value, Source)}


@dataclass(frozen=True, eq=False)
class Opened:
    """A case ready for the pipeline: files by role, and the labels of both images."""

    files: dict[str, Path]
    fixed_labels: Labels | None = None
    moving_labels: Labels | None = None


def cases_of(dataset: AcquiredPairs) -> list[EvaluationCase]:
    """The pairs of a split, as they are in its first epoch.

    Names that come twice are told apart by their places.
    """
    found, seen = [], set()
    for ref in dataset.pairs(0):
        cases = {
            "fixed": dataset.index.cases[ref.fixed],
            "moving": dataset.index.cases[ref.moving],
        }
        name = ref.name if ref.name not in seen else f"{ref.name} ({ref.place})"
        seen.add(name)
        found.append(_case_of(name, cases, dataset.config.hdf5_spacing_mm))
    return found


def _case_of(name: str, cases: dict[str, Case], spacing_mm: Spacing) -> EvaluationCase:
    parts = {}
    for side, case in cases.items():
        parts[side] = case.image
        for kind in ("labels", "points", "mask"):
            parts[f"{side}_{kind}"] = getattr(case, kind)
    return EvaluationCase(name, **parts, spacing_mm=spacing_mm)


def open_case(case: EvaluationCase, scratch: Path) -> Opened:
    """Files that the service reads; what it does not read is written anew into `scratch`.

    Raises:
        InvalidFileError: If something cannot be read.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    files = {role: _image(case, role, scratch) for role in ("fixed", "moving")}
    for role in ("fixed_mask", "moving_mask"):
        if (source := getattr(case, role)) is not None:
            files[role] = _written(scratch, role, read_mask(source, case.spacing_mm))
    files |= _points(case, scratch)
    labels = [_labels(source, case) for source in (case.fixed_labels, case.moving_labels)]
    for role, part in zip(("fixed_labels", "moving_labels"), labels, strict=True):
        if part is not None and part.is_map:
            files[role] = _written(scratch, role, Volume(part.data, part.grid))
    return Opened(files, *labels)


def _image(case: EvaluationCase, role: str, scratch: Path) -> Path:
    source: Source = getattr(case, role)
    if source.key is None and not is_stack(source.path):
        return source.path
    return _written(scratch, role, read_image(source, case.spacing_mm))


def _labels(source: Source | None, case: EvaluationCase) -> Labels | None:
    return None if source is None else read_labels(source, case.spacing_mm)


def _points(case: EvaluationCase, scratch: Path) -> dict[str, Path]:
    if case.fixed_points is None or case.moving_points is None:
        return {}
    pair = matched(read_landmarks(case.fixed_points), read_landmarks(case.moving_points))
    files = {}
    for role, points in zip(("fixed_points", "moving_points"), pair, strict=True):
        files[role] = scratch / f"{role}.csv"
        write_points(files[role], points)
    return files


def _written(scratch: Path, role: str, volume: Volume) -> Path:
    path = scratch / f"{role}.nii"
    write_volume(path, volume)
    return path


def pair_set_digest(cases: Iterable[EvaluationCase]) -> str:
    """A checksum of which files are compared with which; the same for the same pairs in any order.

    Raises:
        TrainingDataError: If a file cannot be read.
    """
    known: dict[Path, str] = {}
    lines = []
    for case in cases:
        parts = []
        for role, source in sorted(case.sources().items()):
            try:
                if source.path not in known:
                    known[source.path] = sha256_of(source.path)
            except OSError as error:
                fault = {"field": source.name, "detail": "It cannot be read."}
                raise TrainingDataError(
                    "A file of the pairs cannot be read.", field=role, errors=(fault,)
                ) from error
            parts.append(f"{role}={known[source.path]}:{source.key or ''}")
        lines.append(";".join(parts))
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def require_cases(cases: Sequence[EvaluationCase]) -> None:
    """Refuse to measure nothing, or two pairs of one name.

    Raises:
        TrainingDataError: If there is no pair, or a name comes twice.
    """
    if not cases:
        raise TrainingDataError("There are no pairs to evaluate on. Name a split that has some.")
    names = [case.name for case in cases]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise TrainingDataError(f"{len(twice)} names of pairs come twice; each needs its own.")
