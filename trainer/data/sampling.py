"""Which pairs an epoch has, and in which order: a function of seed and epoch alone."""

from collections.abc import Callable
from itertools import combinations, permutations

import numpy as np

from trainer.config.data import DataConfig, GroupedConfig, SplitName
from trainer.data.cases import Index

Pairs = list[tuple[int, int]]
SPLIT_NUMBERS = {"train": 0, "valid": 1, "test": 2}


def epoch_pairs(
    index: Index, config: DataConfig, split: SplitName, *, seed: int, epoch: int
) -> Pairs:
    """(fixed, moving) of every pair of an epoch, numbers of cases.

    paired: all, shuffled. unpaired: floor(n / 2) pairs, so that each image is seen once (as
    DeepReg has it). grouped: see `_grouped`. Another number of pairs goes through new shuffles, or
    stops early. Validation and test are the same in every epoch, and unshuffled where all pairs
    are taken.
    """
    is_training = split == "train"
    draw = np.random.default_rng([seed, SPLIT_NUMBERS[split], epoch if is_training else 0])
    count = config.pairs_per_epoch if is_training else config.evaluation_pairs
    if config.pairing == "paired":
        pairs = list(index.pairs)
        if not is_training:
            return pairs[:count]
        return _repeated(lambda: _shuffled(pairs, draw), count)
    if config.pairing == "unpaired" and is_training:
        return _repeated(lambda: _unpaired(len(index.cases), draw), count)
    if config.pairing == "unpaired":
        pairs = _unpaired(len(index.cases), draw)
        if count is None or count <= len(pairs):
            return pairs[:count]
        others = set(permutations(range(len(index.cases)), 2)) - set(pairs)
        return (pairs + _shuffled(sorted(others), draw))[:count]
    groups = list(index.groups().values())
    return _repeated(lambda: _grouped(groups, config.grouped, draw), count)


def _repeated(make: Callable[[], Pairs], count: int | None) -> Pairs:
    pairs = make()
    while count is not None and pairs and len(pairs) < count:
        pairs += make()
    return pairs[:count]


def _shuffled(pairs: Pairs, draw: np.random.Generator) -> Pairs:
    return [pairs[n] for n in draw.permutation(len(pairs))]


def _unpaired(count: int, draw: np.random.Generator) -> Pairs:
    order = draw.permutation(count)
    return [(int(order[n]), int(order[n + 1])) for n in range(0, count - 1, 2)]


def _grouped(groups: list[list[int]], config: GroupedConfig, draw: np.random.Generator) -> Pairs:
    """One pair for each group, or all pairs; shuffled.

    A pair lies within the group with `intra_group_prob`, else its moving image comes from another
    group. A group of one image has no pair within, and a single group none without: where either
    may be drawn, the other is taken then, so that every epoch has as many pairs.
    """
    if config.sample_image_in_group:
        return _shuffled(_one_for_each(groups, config, draw), draw)
    if config.intra_group_prob == 1:
        pairs = [pair for group in groups for pair in _within(group, config)]
    else:
        pairs = [(f, m) for one, other in permutations(groups, 2) for f in one for m in other]
    return _shuffled(pairs, draw)


def _within(group: list[int], config: GroupedConfig) -> Pairs:
    """Every pair of a group, whose images are ordered by name."""
    ordered = list(combinations(group, 2))
    forward = [(later, earlier) for earlier, later in ordered]
    return {
        "forward": forward,
        "backward": ordered,
        "unconstrained": [*forward, *ordered],
    }[config.intra_group_option]


def _one_for_each(
    groups: list[list[int]], config: GroupedConfig, draw: np.random.Generator
) -> Pairs:
    pairs: Pairs = []
    for number, group in enumerate(groups):
        is_within = draw.random() < config.intra_group_prob
        within = _within(group, config)
        if 0 < config.intra_group_prob < 1:
            is_within = bool(within) and (is_within or len(groups) == 1)
        if is_within and within:
            pairs.append(within[int(draw.integers(len(within)))])
        elif not is_within and len(groups) > 1:
            other = groups[(number + 1 + int(draw.integers(len(groups) - 1))) % len(groups)]
            pairs.append(
                (group[int(draw.integers(len(group)))], other[int(draw.integers(len(other)))])
            )
    return pairs
