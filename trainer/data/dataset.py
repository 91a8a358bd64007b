"""Open the pairs of a split."""

from pathlib import Path

from trainer.config.data import DataConfig, SplitName
from trainer.data.acquired import AcquiredPairs
from trainer.data.cases import Problems
from trainer.data.checking import check_data, checked_index
from trainer.data.pairs import PairDataset, PairRef
from trainer.data.reading import matched

__all__ = [
    "AcquiredPairs",
    "PairDataset",
    "PairRef",
    "check_data",
    "matched",
    "open_acquired",
    "open_dataset",
]


def open_acquired(
    config: DataConfig, split: SplitName, *, multiple: int, cache: Path, seed: int
) -> AcquiredPairs:
    """The acquired pairs of a split, once every file's header has been checked.

    Args:
        config: Where the data are, and how they are seen.
        split: train, valid or test; an empty one has no pairs.
        multiple: Sizes are padded to it; the network's.
        cache: A folder for prepared arrays; may be shared and kept.
        seed: Of the order of pairs.

    Raises:
        TrainingDataError: If anything is wrong with the data, with all of it in `errors`.
    """
    problems = Problems()
    index = checked_index(config, split, problems)
    problems.settle()
    return AcquiredPairs(config, split, index, multiple=multiple, cache=cache, seed=seed)


def open_dataset(
    config: DataConfig, split: SplitName, *, multiple: int, cache: Path, seed: int
) -> PairDataset:
    """The pairs of a split: acquired ones.

    Args and errors are those of `open_acquired`.
    """
    return open_acquired(config, split, multiple=multiple, cache=cache, seed=seed)
