"""Which cases are for training, validation and test. A group is never in two of them."""

from pathlib import Path

import numpy as np

from trainer.config.data import DataConfig, SplitName
from trainer.config.splits import FoldSplits, FractionSplits
from trainer.data.cases import Index, Problems, joined
from trainer.data.folders import read_folder
from trainer.data.hdf5 import read_hdf5
from trainer.data.lists import read_list, read_rows

READERS = {"folders": read_folder, "list": read_list, "hdf5": read_hdf5}
SPLITS: tuple[SplitName, ...] = ("train", "valid", "test")


def read_split(config: DataConfig, split: SplitName, problems: Problems) -> Index:
    """The cases of a split; what is wrong with names and counterparts goes to `problems`."""
    if config.format == "none":
        return Index(())
    root = Path(config.root).resolve()
    if not root.is_dir():
        problems.add("data root", "There is no such folder.")
        return Index(())
    how = config.splits
    if how.kind == "explicit":
        sources = {"train": how.train, "valid": how.valid, "test": how.test}[split]
        if config.rows and split == "train":
            return read_rows(root, config, problems)
        return _read(root, sources, config, problems)
    index = _read(root, how.source if not config.rows else (), config, problems)
    if config.rows:
        index = read_rows(root, config, problems)
    if how.kind == "column":
        _report_leaks(index, problems)
        return index.picked([n for n, case in enumerate(index.cases) if case.split == split])
    return index.kept(groups_of(index, how, split))


def _report_leaks(index: Index, problems: Problems) -> None:
    groups = index.groups()
    for place, (group, numbers) in enumerate(groups.items(), start=1):
        splits = {index.cases[n].split for n in numbers} - {None}
        if len(splits) > 1:
            problems.add(
                group,
                f"The group is in {' and '.join(sorted(map(str, splits)))}.",
                place=f"group {place} of {len(groups)}",
            )


def _read(root: Path, sources: tuple[str, ...], config: DataConfig, problems: Problems) -> Index:
    reader = READERS[config.format]
    return joined([reader(root, name, config, problems) for name in sources])


def groups_of(index: Index, how: FractionSplits | FoldSplits, split: SplitName) -> set[str]:
    """The groups of a split: a seeded shuffle of their names, cut into pieces.

    Shares are rounded, but a share above 0 has at least one group where there are three or more.
    Fold n of k is every k-th group from the n-th on.
    """
    names = sorted(index.groups())
    order = np.random.default_rng(how.seed).permutation(len(names))
    shuffled = [names[n] for n in order]
    if how.kind == "folds":
        test = shuffled[how.fold :: how.folds]
    else:
        test = shuffled[: _count(how.test, len(names))]
    rest = [name for name in shuffled if name not in set(test)]
    total = len(names) if how.kind == "fractions" else len(rest)
    valid = rest[: _count(how.valid, total)]
    train = rest[len(valid) :]
    return set({"train": train, "valid": valid, "test": test}[split])


def _count(share: float, total: int) -> int:
    return max(round(share * total), 1 if share > 0 and total >= 3 else 0)
