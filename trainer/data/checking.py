"""Every file of a data set looked at before the first step; all faults are told at once."""

import math
from collections.abc import Callable

from service.errors import WarplineError
from service.registration.grid import Grid
from service.registration.model_grid import model_grid
from trainer.config.data import DataConfig, SplitName
from trainer.data.cases import Case, Index, Kind, Problems, Source
from trainer.data.reading import header_of, read_image, read_labels, read_landmarks, read_mask
from trainer.data.sampling import epoch_pairs
from trainer.data.splitting import SPLITS, read_split


def check_data(config: DataConfig, *, splits: tuple[SplitName, ...] = SPLITS) -> None:
    """Check all splits.

    Raises:
        TrainingDataError: If anything is wrong, with all of it in `errors`.
    """
    problems = Problems()
    for split in splits:
        checked_index(config, split, problems)
    problems.settle()


def checked_index(config: DataConfig, split: SplitName, problems: Problems) -> Index:
    """The cases of a split, after a look at headers, grids and numbers of points.

    Every voxel is read too if the configuration says so. A training split of random shapes has no
    case.
    """
    if split == "train" and config.synthetic == "shapes":
        return Index(())
    index = read_split(config, split, problems)
    is_acquired = config.format != "none" and config.synthetic == "none"
    if split == "train" and is_acquired and not _has_pairs(index, config) and not problems.found:
        problems.add("/data/splits", "The training split has no pair.")
    check_index(index, config, problems)
    return index


def _has_pairs(index: Index, config: DataConfig) -> bool:
    return bool(epoch_pairs(index, config, "train", seed=0, epoch=0))


def check_index(index: Index, config: DataConfig, problems: Problems) -> None:
    """Check the cases of an index, and its pairs."""
    checker = _Checker(config, problems)
    for case in index.cases:
        checker.check(case)
    for fixed, moving in index.pairs:
        checker.check_pair(index.cases[fixed], index.cases[moving])


class _Checker:
    """Looks at each file once."""

    def __init__(self, config: DataConfig, problems: Problems) -> None:
        self._config, self._problems = config, problems
        self._seen: dict[str, tuple[Grid, int] | None] = {}
        self._points: dict[str, int] = {}

    def check(self, case: Case) -> None:
        image = self._header(case.image, "image")
        if image is not None:
            self._check_image(case, *image)
        for kind, source in case.sources().items():
            if kind in ("labels", "mask"):
                header = self._header(source, kind)
                if header and image and not header[0].is_same(image[0]):
                    self._problems.add(
                        source.name,
                        f"The {kind} do not lie on the grid of their image: "
                        f"{header[0].shape} voxels against {image[0].shape}, or another place.",
                    )
            elif kind == "points":
                self._count_points(source)

    def check_pair(self, fixed: Case, moving: Case) -> None:
        counts = [self._points.get(c.points.name) for c in (fixed, moving) if c.points]
        if len(counts) == 2 and None not in counts and counts[0] != counts[1]:
            self._problems.add(
                moving.points.name if moving.points else moving.name,
                f"There are {counts[1]} moving points for {counts[0]} fixed ones.",
            )

    def _check_image(self, case: Case, grid: Grid, count: int) -> None:
        rule = self._config.grid
        if count != 1:
            self._problems.add(case.image.name, f"The file holds {count} volumes; one is needed.")
        is_slice = grid.shape[2] == 1
        if (rule.ndim == 2) != is_slice:
            found = "a slice" if is_slice else "a volume"
            self._problems.add(
                case.image.name, f"This is {found}; data.grid.ndim says {rule.ndim}."
            )
            return
        unbounded = rule.rule(1).model_copy(update={"max_voxels": 1 << 40})
        whole = model_grid(unbounded, grid, rule.ndim)
        voxels = math.prod(rule.shape) if rule.shape else whole.voxel_count
        if voxels > rule.max_voxels:
            self._problems.add(
                case.image.name,
                f"At {rule.spacing_mm:g} mm its grid has {voxels} voxels; data.grid.max_voxels "
                f"is {rule.max_voxels}. Take a larger spacing or a fixed shape.",
            )

    def _header(self, source: Source, kind: Kind) -> tuple[Grid, int] | None:
        if source.name not in self._seen:
            self._seen[source.name] = self._looked_at(source, kind)
        return self._seen[source.name]

    def _looked_at(self, source: Source, kind: Kind) -> tuple[Grid, int] | None:
        spacing = self._config.hdf5_spacing_mm
        readers: dict[str, Callable[..., object]] = {
            "image": read_image,
            "labels": read_labels,
            "mask": read_mask,
        }
        try:
            header = header_of(source, spacing)
            if self._config.check_voxels:
                readers[kind](source, spacing)
        except (WarplineError, OSError) as error:
            detail = error.detail if isinstance(error, WarplineError) else "It cannot be read."
            self._problems.add(source.name, detail)
            return None
        return header

    def _count_points(self, source: Source) -> None:
        if source.name in self._points:
            return
        try:
            points = read_landmarks(source)
        except (WarplineError, OSError) as error:
            detail = error.detail if isinstance(error, WarplineError) else "It cannot be read."
            self._problems.add(source.name, detail)
            return
        if points.ids is None:
            self._points[source.name] = len(points)
