"""Epochs, batches and resuming: everything follows from the seed and the place."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from trainer.config.augment import AffineAugment, AugmentConfig
from trainer.config.data import DataConfig, GridConfig
from trainer.config.splits import FractionSplits
from trainer.data.acquired import AcquiredPairs
from trainer.data.batch import Batch
from trainer.data.dataset import open_acquired
from trainer.data.feeding import batches, share_of
from trainer.data.pairs import PairRef

SPLITS = FractionSplits(valid=0.0, test=0.0)


@pytest.fixture
def dataset(unpaired_folder: Path, tmp_path: Path) -> AcquiredPairs:
    config = DataConfig(
        root=str(unpaired_folder),
        pairing="unpaired",
        labels="required",
        splits=SPLITS,
        grid=GridConfig(spacing_mm=3.0),
        pairs_per_epoch=7,
    )
    return open_acquired(config, "train", multiple=4, cache=tmp_path / "cache", seed=3)


def same(one: Batch, other: Batch) -> bool:
    assert one.fixed_labels is not None
    assert other.fixed_labels is not None
    return (
        one.names == other.names
        and torch.equal(one.fixed, other.fixed)
        and torch.equal(one.moving, other.moving)
        and torch.equal(one.fixed_labels, other.fixed_labels)
    )


def test_an_epoch_entered_in_the_middle_goes_on_as_if_unbroken(dataset: AcquiredPairs) -> None:
    whole = list(batches(dataset, 2, 2, None, 5, workers=2))
    rest = list(batches(dataset, 2, 2, None, 5, start=2, workers=0))
    assert [len(batch) for batch in whole] == [2, 2, 2, 1]
    assert len(rest) == 2
    assert all(same(one, other) for one, other in zip(whole[2:], rest, strict=True))


def test_each_process_gets_as_many_pairs_however_few_there_are() -> None:
    refs = [PairRef(0, n, n, n + 1, f"pair {n}") for n in range(3)]
    for count in (1, 2, 3):
        shares = [share_of(refs[:count], rank, 7) for rank in range(7)]
        assert {len(share) for share in shares} == {1}
        assert {ref for share in shares for ref in share} == set(refs[:count])


def test_measured_on_several_processes_each_pair_counts_once(dataset: AcquiredPairs) -> None:
    def of(rank: int) -> list[Batch]:
        return list(batches(dataset, 0, 1, None, 5, rank=rank, world=4, workers=0, is_even=False))

    shares = [of(rank) for rank in range(4)]
    alone = list(batches(dataset, 0, 1, None, 5, workers=0))
    assert [len(share) for share in shares] == [2, 2, 2, 1]
    assert all(same(shares[n % 4][n // 4], pair) for n, pair in enumerate(alone))


def test_what_is_drawn_follows_from_seed_epoch_and_place(dataset: AcquiredPairs) -> None:
    """The same pair at the same place in another epoch, or with another seed, looks otherwise."""

    def first(epoch: int, seed: int) -> Batch:
        ref = replace(dataset.pairs(0)[0], epoch=epoch)
        fixed = SimpleNamespace(pairs=lambda _: [ref], load=dataset.load)
        return next(batches(fixed, epoch, 1, augment, seed, workers=0))  # type: ignore[arg-type]

    augment = AugmentConfig(affine=AffineAugment())
    once, again, later, other = first(0, 1), first(0, 1), first(1, 1), first(0, 2)
    assert torch.equal(once.fixed, again.fixed)
    assert not torch.equal(once.fixed, later.fixed)
    assert not torch.equal(once.fixed, other.fixed)
    plain = next(batches(dataset, 0, 1, None, 1, workers=0))
    assert not torch.equal(once.fixed, plain.fixed)


def test_epochs_and_seeds_differ(dataset: AcquiredPairs) -> None:
    names = [[ref.name for ref in dataset.pairs(epoch)] for epoch in (0, 0, 1)]
    assert names[0] == names[1] != names[2]


def test_ranks_share_an_epoch_evenly(dataset: AcquiredPairs) -> None:
    parts = [list(batches(dataset, 0, 2, None, 5, rank=rank, world=2)) for rank in (0, 1)]
    assert [[len(batch) for batch in part] for part in parts] == [[2, 2], [2, 2]]
    seen = {name for part in parts for batch in part for name in batch.names}
    assert seen == {ref.name for ref in dataset.pairs(0)}


def test_a_stopped_epoch_leaves_no_thread_waiting(dataset: AcquiredPairs) -> None:
    stream = batches(dataset, 0, 1, None, 5, workers=2)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
