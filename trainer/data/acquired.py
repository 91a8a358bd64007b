"""Pairs of acquired images, as the network sees them."""

from pathlib import Path

import numpy as np
import torch

from service.errors import WarplineError
from service.registration.fields import Affine
from trainer.config.data import DataConfig, SplitName
from trainer.data.batch import Batch
from trainer.data.cache import DiskCache, MemoryCache
from trainer.data.cases import Case, Index, Problems
from trainer.data.checking import check_index
from trainer.data.pairs import PairRef
from trainer.data.placing import Placement, place
from trainer.data.prepared import CaseStore
from trainer.data.reading import matched
from trainer.data.sampling import epoch_pairs


class AcquiredPairs:
    """The pairs of one split.

    Everything random follows from the seed, the epoch and the pair's place in it, so an epoch can
    be entered anywhere.
    """

    def __init__(
        self,
        config: DataConfig,
        split: SplitName,
        index: Index,
        *,
        multiple: int,
        cache: Path,
        seed: int,
    ) -> None:
        self.config, self.split, self.index = config, split, index
        self.multiple, self.seed = multiple, seed
        self._store = CaseStore(config, DiskCache(cache))
        self._memory: MemoryCache[np.ndarray] = MemoryCache(
            config.cache.memory_mib << 20, lambda array: array.nbytes
        )
        self.label_values = self._label_values()

    def __len__(self) -> int:
        return len(self.pairs(0))

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Of the model grid, one for each axis."""
        return (self.config.grid.spacing_mm,) * self.config.grid.ndim

    def pairs(self, epoch: int) -> list[PairRef]:
        """The pairs of an epoch, in order."""
        found = epoch_pairs(self.index, self.config, self.split, seed=self.seed, epoch=epoch)
        return [
            PairRef(epoch, n, fixed, moving, self._name(fixed, moving))
            for n, (fixed, moving) in enumerate(found)
        ]

    def load(self, ref: PairRef, draw: np.random.Generator) -> Batch:
        """One pair as a batch of one.

        Args:
            ref: Of `pairs`.
            draw: Picks the label, where one is sampled.

        Raises:
            TrainingDataError: If a file cannot be read.
        """
        fixed, moving = self.index.cases[ref.fixed], self.index.cases[ref.moving]
        try:
            return self._load(ref, fixed, moving, draw)
        except WarplineError as error:
            problems = Problems()
            every_voxel = self.config.model_copy(update={"check_voxels": True})
            check_index(Index((fixed, moving)), every_voxel, problems)
            if not problems.found:
                problems.add(ref.name, error.detail)
            problems.settle()
            raise

    def placement(self, ref: PairRef) -> Placement:
        """How a pair is seen: its model grid and initial affine."""
        fixed, moving = self.index.cases[ref.fixed], self.index.cases[ref.moving]
        grid = self._store.image(fixed).grid
        return place(self.config.grid, self.multiple, grid, self._affine(fixed, moving))

    def has_label_map(self, case: Case) -> bool:
        """Whether a case's labels are one value a voxel."""
        labels = self._store.labels(case)
        return labels is not None and labels.is_map

    def label_map(self, number: int) -> np.ndarray:
        """The label map of a case on its own model grid, (*s) whole numbers; outside 0.

        Labels that the configuration leaves out are 0.
        """
        case = self.index.cases[number]
        labels = self._store.labels(case)
        if labels is None:
            raise ValueError(f"{case.name} has no labels")
        where = place(self.config.grid, self.multiple, labels.grid, Affine.identity())

        def placed() -> np.ndarray:
            found = where.fixed_map(labels)
            return np.where(np.isin(found, self.label_values), found, 0)

        return self._memory.value(f"{number}|own map", placed)

    def _name(self, fixed: int, moving: int) -> str:
        return f"{self.index.cases[fixed].name}<-{self.index.cases[moving].name}"

    def _load(self, ref: PairRef, fixed: Case, moving: Case, draw: np.random.Generator) -> Batch:
        where, rule = self.placement(ref), self.config.intensity
        moving_rule = self.config.moving_intensity or rule
        store, key = self._store, f"{ref.fixed}|{ref.moving}"
        images = {
            "fixed": self._memory.value(
                f"{ref.fixed}|fixed", lambda: where.fixed_image(store.image(fixed), rule)
            ),
            "moving": self._memory.value(
                f"{key}|moving", lambda: where.moving_image(store.coarse_image(moving), moving_rule)
            ),
        }
        tensors = {role: torch.from_numpy(a)[None, None] for role, a in images.items()}
        values: tuple[int, ...] = ()
        if self.label_values:
            values = self._chosen_labels(fixed, moving, draw)
            tensors |= self._labels(where, ref, values)
        return Batch(
            **tensors,
            **self._points(where, fixed, moving),
            **self._masks(where, fixed, moving),
            names=(ref.name,),
            spacing_mm=self.spacing_mm,
            label_values=(values,),
        )

    def _chosen_labels(
        self, fixed: Case, moving: Case, draw: np.random.Generator
    ) -> tuple[int, ...]:
        """All labels, or in training one that both images have."""
        if self.split != "train" or self.config.sample_label == "all":
            return self.label_values
        both = set(self._store.label_values(fixed)) & set(self._store.label_values(moving))
        shared = [value for value in self.label_values if value in both]
        if not shared:
            return (0,)
        return (shared[int(draw.integers(len(shared)))],)

    def _labels(
        self, where: Placement, ref: PairRef, values: tuple[int, ...]
    ) -> dict[str, torch.Tensor]:
        fixed = np.stack([self._share(where, ref, value, is_fixed=True) for value in values])
        moving = np.stack([self._share(where, ref, value, is_fixed=False) for value in values])
        present = [bool(f.any() and m.any()) for f, m in zip(fixed, moving, strict=True)]
        for share in (fixed, moving):
            share[~np.array(present)] = 0
        return {
            "fixed_labels": torch.from_numpy(fixed)[None],
            "moving_labels": torch.from_numpy(moving)[None],
            "label_present": torch.tensor([present]),
        }

    def _share(self, where: Placement, ref: PairRef, value: int, *, is_fixed: bool) -> np.ndarray:
        """One label of one image on the model grid; zeros where the image lacks it."""
        case = self.index.cases[ref.fixed if is_fixed else ref.moving]
        labels = self._store.labels(case)
        if labels is None or value not in self._store.label_values(case):
            return np.zeros(self._size(where), np.float32)
        key = f"{ref.fixed}|fixed" if is_fixed else f"{ref.fixed}|{ref.moving}"
        if labels.is_map and not self.config.soft_labels:
            make = where.fixed_map if is_fixed else where.moving_map
            placed = self._memory.value(f"{key}|map", lambda: make(labels))
            return np.asarray(placed == value, dtype=np.float32)
        share = where.fixed_share if is_fixed else where.moving_share
        return self._memory.value(f"{key}|label {value}", lambda: share(labels, value))

    def _size(self, where: Placement) -> tuple[int, ...]:
        shape = self.config.grid.shape or where.grid.shape[: self.config.grid.ndim]
        return tuple(n + -n % self.multiple for n in shape)

    def _points(self, where: Placement, fixed: Case, moving: Case) -> dict[str, torch.Tensor]:
        found = self._store.points(fixed), self._store.points(moving)
        if found[0] is None or found[1] is None:
            return {}
        here, there = matched(found[0], found[1])
        return {
            "fixed_points": torch.from_numpy(where.fixed_points(here))[None],
            "moving_points": torch.from_numpy(where.moving_points(there))[None],
        }

    def _masks(self, where: Placement, fixed: Case, moving: Case) -> dict[str, torch.Tensor]:
        masks: dict[str, torch.Tensor] = {}
        if (mask := self._store.mask(fixed)) is not None:
            masks["fixed_mask"] = _mask_tensor(where.fixed_mask(mask))
        if (mask := self._store.mask(moving)) is not None:
            masks["moving_mask"] = _mask_tensor(where.moving_mask(mask))
        return masks

    def _affine(self, fixed: Case, moving: Case) -> Affine:
        """The initial affine of a pair, found once and kept."""
        how = self.config.initialise
        if how == "none":
            return Affine.identity()
        return Affine(self._store.affine(fixed, moving, how))

    def _label_values(self) -> tuple[int, ...]:
        """The labels that count, of the configuration or of all cases."""
        if self.config.labels == "none":
            return ()
        found = {v for case in self.index.cases for v in self._store.label_values(case)}
        return (
            self.config.label_values if found and self.config.label_values else tuple(sorted(found))
        )


def _mask_tensor(mask: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(mask.astype(np.float32))[None, None]
