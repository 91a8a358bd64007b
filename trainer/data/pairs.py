"""What a training takes its pairs from, acquired or rendered."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from trainer.data.batch import Batch


@dataclass(frozen=True)
class PairRef:
    """One pair of one epoch: its place there, and the numbers of its cases."""

    epoch: int
    place: int
    fixed: int
    moving: int
    name: str


class PairDataset(Protocol):
    """The pairs of one split.

    What is random follows from the seed, the epoch and the pair's place in it, so an epoch can be
    entered anywhere. `label_values` names the labels that there are.
    """

    @property
    def label_values(self) -> tuple[int, ...]: ...

    @property
    def spacing_mm(self) -> tuple[float, ...]: ...

    def __len__(self) -> int: ...

    def pairs(self, epoch: int) -> list[PairRef]: ...

    def load(self, ref: PairRef, draw: np.random.Generator) -> Batch: ...
