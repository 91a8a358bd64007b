"""Open the pairs of a split."""

from pathlib import Path

from trainer.config.data import DataConfig, SplitName
from trainer.config.synth import SynthConfig
from trainer.data.acquired import AcquiredPairs
from trainer.data.cases import Problems
from trainer.data.checking import check_data, checked_index
from trainer.data.pairs import PairDataset, PairRef
from trainer.data.reading import matched
from trainer.data.rendered import RenderedPairs, label_maps
from trainer.synth import SyntheticPairs

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
    config: DataConfig,
    split: SplitName,
    *,
    multiple: int,
    cache: Path,
    seed: int,
    synth: SynthConfig | None = None,
) -> PairDataset:
    """The pairs of a split: acquired ones, or rendered ones where the configuration says so.

    Args:
        config: Where the data are, and how they are seen.
        split: train, valid or test.
        multiple: Sizes are padded to it; the network's.
        cache: A folder for prepared arrays.
        seed: Of the order of pairs, and of rendered ones.
        synth: How pairs are rendered.

    Raises:
        TrainingDataError: If anything is wrong with the data, with all of it in `errors`.
    """
    is_rendered = config.format == "none" or (split == "train" and config.synthetic != "none")
    if not is_rendered:
        return open_acquired(config, split, multiple=multiple, cache=cache, seed=seed)
    recipe, shape = synth or SynthConfig(), config.grid.shape or ()
    spacing_mm = (config.grid.spacing_mm,) * config.grid.ndim
    if config.synthetic == "shapes":
        values = tuple(range(1, recipe.shapes.labels + 1))
        renderer = SyntheticPairs(recipe, shape, spacing_mm, seed)
        return RenderedPairs(config, split, renderer, label_values=values)
    acquired = open_acquired(config, split, multiple=multiple, cache=cache, seed=seed)
    maps = label_maps(acquired)
    renderer = SyntheticPairs(recipe, shape, spacing_mm, seed, label_maps=maps)
    return RenderedPairs(config, split, renderer, label_values=acquired.label_values)
