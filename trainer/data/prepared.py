"""Cases decoded once: images, labels, points and masks under a cache."""

from typing import Literal

import numpy as np

from service.registration.grid import Grid
from service.registration.initialise import initialise
from service.registration.model_grid import on_grid
from service.registration.points import WorldPoints
from service.registration.volume import Volume
from trainer.config.data import DataConfig
from trainer.data.cache import Arrays, DiskCache, digest
from trainer.data.cases import Case, Source
from trainer.data.reading import Labels, read_image, read_labels, read_landmarks, read_mask


class CaseStore:
    """What belongs to cases, as arrays that the disk cache keeps decoded."""

    def __init__(self, config: DataConfig, disk: DiskCache) -> None:
        self._config, self._disk = config, disk
        self._spacing = config.hdf5_spacing_mm
        self._identities: dict[str, str] = {}
        self._values: dict[str, tuple[int, ...]] = {}

    def image(self, case: Case) -> Volume:
        """The image on its own grid."""
        key = self._key("image", case.image)
        return _volume(
            self._disk.arrays(key, lambda: _arrays(read_image(case.image, self._spacing)))
        )

    def coarse_image(self, case: Case) -> Volume:
        """The image no finer than the model grid, from which the service's `through` goes on.

        Slices are left as they are.
        """
        if self._config.grid.ndim == 2:
            return self.image(case)
        spacing_mm = self._config.grid.spacing_mm
        key = self._key("coarse image", case.image, spacing_mm)
        return _volume(
            self._disk.arrays(key, lambda: _arrays(_no_finer(self.image(case), spacing_mm)))
        )

    def labels(self, case: Case) -> Labels | None:
        """The labels on their own grid."""
        if case.labels is None:
            return None
        source = case.labels
        arrays = self._disk.arrays(
            self._key("labels", source), lambda: _label_arrays(read_labels(source, self._spacing))
        )
        grid = Grid(_shape(arrays["data"].shape[-3:]), arrays["affine"])
        return Labels(arrays["data"], grid, arrays["first"], arrays["last"])

    def label_values(self, case: Case) -> tuple[int, ...]:
        """The labels that a case has."""
        if case.labels is None:
            return ()
        if case.name not in self._values:
            self.labels(case)
            key = self._key("label values", case.labels)
            arrays = self._disk.arrays(key, lambda: self._found_values(case))
            self._values[case.name] = tuple(int(v) for v in arrays["values"])
        return self._values[case.name]

    def _found_values(self, case: Case) -> Arrays:
        labels = self.labels(case)
        return {"values": np.array(() if labels is None else labels.values(), dtype=np.int64)}

    def points(self, case: Case) -> WorldPoints | None:
        """The points, world mm."""
        return None if case.points is None else read_landmarks(case.points)

    def mask(self, case: Case) -> Volume | None:
        """The mask on its own grid."""
        if case.mask is None:
            return None
        source = case.mask
        return _volume(
            self._disk.arrays(
                self._key("mask", source), lambda: _arrays(read_mask(source, self._spacing))
            )
        )

    def affine(
        self, fixed: Case, moving: Case, how: Literal["centre", "moments", "rigid", "affine"]
    ) -> np.ndarray:
        """The initial affine of a pair, fixed to moving, as the service finds it."""
        parts = [self._identity(s) for c in (fixed, moving) for s in (c.image, c.mask) if s]
        return self._disk.arrays(
            digest("affine", how, *parts), lambda: self._found_affine(fixed, moving, how)
        )["matrix"]

    def _found_affine(
        self, fixed: Case, moving: Case, how: Literal["centre", "moments", "rigid", "affine"]
    ) -> Arrays:
        found = initialise(
            self.image(fixed),
            self.image(moving),
            how,
            fixed_mask=self.mask(fixed),
            moving_mask=self.mask(moving),
        )
        return {"matrix": found.matrix}

    def _identity(self, source: Source) -> str:
        if source.name not in self._identities:
            self._identities[source.name] = source.identity
        return self._identities[source.name]

    def _key(self, what: str, source: Source, *settings: object) -> str:
        return digest(what, self._identity(source), self._spacing, *settings)


def _no_finer(volume: Volume, spacing_mm: float) -> Volume:
    """As `model_grid.through` prepares a moving volume for a grid of this spacing."""
    i, j, k = np.maximum(volume.grid.spacing_mm, spacing_mm)
    return on_grid(volume, volume.grid.resampled((float(i), float(j), float(k))))


def _arrays(volume: Volume) -> Arrays:
    return {"data": volume.data, "affine": volume.grid.affine}


def _label_arrays(labels: Labels) -> Arrays:
    affine = labels.grid.affine
    return {"data": labels.data, "affine": affine, "first": labels.first, "last": labels.last}


def _volume(arrays: Arrays) -> Volume:
    return Volume(arrays["data"], Grid(_shape(arrays["data"].shape), arrays["affine"]))


def _shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    i, j, k = shape
    return i, j, k
