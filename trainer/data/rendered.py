"""Synthetic pairs in the place of acquired ones, and the label maps that they are rendered from."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from trainer.config.data import DataConfig, SplitName
from trainer.data.acquired import AcquiredPairs
from trainer.data.batch import Batch
from trainer.data.cases import Problems
from trainer.data.pairs import PairRef
from trainer.data.sampling import SPLIT_NUMBERS
from trainer.synth import SyntheticPair, SyntheticPairs

__all__ = ["LabelMaps", "RenderedPairs", "label_maps"]

DEFAULT_PAIRS = 100


class LabelMaps(Sequence[np.ndarray]):
    """The label maps of a split on their model grids, (*s) whole numbers; read when asked for."""

    def __init__(self, dataset: AcquiredPairs) -> None:
        self._dataset = dataset
        self._numbers = [n for n, case in enumerate(dataset.index.cases) if case.labels]

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, number: int) -> np.ndarray:  # type: ignore[override]
        return self._dataset.label_map(self._numbers[number])


def label_maps(dataset: AcquiredPairs) -> LabelMaps:
    """The label maps of a split.

    Raises:
        TrainingDataError: If it has none, or some are 4-D files, whose labels may overlap.
    """
    problems = Problems()
    for case in dataset.index.cases:
        if case.labels is not None and not dataset.has_label_map(case):
            problems.add(case.labels.name, "Pairs are rendered from maps of whole numbers.")
    maps = LabelMaps(dataset)
    if not len(maps):
        problems.add("/data/labels", "There is no label map to render pairs from.")
    problems.settle()
    return maps


class RenderedPairs:
    """As many rendered pairs an epoch as asked for; none comes twice in training.

    Pair n of epoch e is number e * pairs + n of the renderer; validation and test take theirs from
    far behind, the same in every epoch.
    """

    def __init__(
        self,
        config: DataConfig,
        split: SplitName,
        renderer: SyntheticPairs,
        *,
        label_values: tuple[int, ...],
    ) -> None:
        self.config, self.split, self.label_values = config, split, label_values
        self._renderer = renderer
        is_training = split == "train"
        count = config.pairs_per_epoch if is_training else config.evaluation_pairs
        self._count = count or DEFAULT_PAIRS

    def __len__(self) -> int:
        return self._count

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Of the model grid, one for each axis."""
        return (self.config.grid.spacing_mm,) * self.config.grid.ndim

    def pairs(self, epoch: int) -> list[PairRef]:
        """The pairs of an epoch; the numbers of their cases are the renderer's."""
        turn = epoch if self.split == "train" else 0
        first = (SPLIT_NUMBERS[self.split] << 40) + turn * self._count
        return [
            PairRef(epoch, n, first + n, first + n, f"synthetic {first + n}")
            for n in range(self._count)
        ]

    def load(self, ref: PairRef, draw: np.random.Generator) -> Batch:
        """One pair as a batch of one, with all labels, or in training one that both images have."""
        pair = self._renderer.draw(ref.fixed)
        values = self._chosen(pair, draw)
        fixed, moving = _shares(pair.fixed_labels, values), _shares(pair.moving_labels, values)
        present = fixed.flatten(1).any(dim=1) & moving.flatten(1).any(dim=1)
        keep = present.reshape(-1, *[1] * pair.fixed_labels.ndim)
        return Batch(
            fixed=pair.fixed[None],
            moving=pair.moving[None],
            fixed_labels=(fixed * keep)[None],
            moving_labels=(moving * keep)[None],
            label_present=present[None],
            displacement=None if pair.displacement is None else pair.displacement[None],
            names=(ref.name,),
            spacing_mm=self.spacing_mm,
            label_values=(values,),
        )

    def _chosen(self, pair: SyntheticPair, draw: np.random.Generator) -> tuple[int, ...]:
        if self.split != "train" or self.config.sample_label == "all":
            return self.label_values
        both = np.intersect1d(pair.fixed_labels.numpy(), pair.moving_labels.numpy())
        shared = [value for value in self.label_values if value in both]
        return (shared[int(draw.integers(len(shared)))],) if shared else (0,)


def _shares(labels: Tensor, values: tuple[int, ...]) -> Tensor:
    """(l, *s): 1 where the map has the label; background, 0, is none."""
    return torch.stack([(labels == value) & (labels > 0) for value in values]).float()
