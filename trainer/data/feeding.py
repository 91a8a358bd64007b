"""Batches of an epoch, prepared ahead by threads; the same whatever their number."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import cycle, islice

import numpy as np
import torch

from trainer.augment import augmented
from trainer.config.augment import AugmentConfig
from trainer.data.batch import Batch, collate
from trainer.data.pairs import PairDataset, PairRef


def batches(
    dataset: PairDataset,
    epoch: int,
    batch_size: int,
    augment: AugmentConfig | None,
    seed: int,
    *,
    start: int = 0,
    rank: int = 0,
    world: int = 1,
    workers: int = 1,
    padding: str = "edge",
    is_even: bool = True,
) -> Iterator[Batch]:
    """The batches of an epoch, from number `start` on.

    A batch is a function of (seed, epoch, its pairs' places), so a run that is resumed within an
    epoch gets the very same ones. The last one may be smaller.

    Args:
        dataset: Where pairs come from.
        epoch: From 0.
        batch_size: Of one rank.
        augment: Random changes; none for validation.
        seed: Of labels and changes.
        start: Batches to leave out.
        rank: Which of the processes this is.
        world: How many there are.
        workers: Threads that prepare; 0 prepares when asked.
        padding: Of images smaller than others in their batch.
        is_even: Each process gets as many pairs, the first ones twice where it does not come out
            even; else each pair is seen once.
    """
    refs = dataset.pairs(epoch)
    refs = share_of(refs, rank, world) if is_even else refs[rank::world]
    chunks = [refs[n : n + batch_size] for n in range(0, len(refs), batch_size)][start:]

    def prepare(chunk: list[PairRef]) -> Batch:
        return collate([_sample(dataset, ref, augment, seed) for ref in chunk], padding)

    if workers == 0:
        yield from map(prepare, chunks)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="batches")
    waiting: deque[Future[Batch]] = deque()
    try:
        for chunk in chunks:
            waiting.append(pool.submit(prepare, chunk))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def share_of(refs: list[PairRef], rank: int, world: int) -> list[PairRef]:
    """Every world-th pair; as many for each rank, the first ones again at the end."""
    whole = len(refs) + -len(refs) % world
    return list(islice(cycle(refs), whole))[rank::world]


def _sample(dataset: PairDataset, ref: PairRef, augment: AugmentConfig | None, seed: int) -> Batch:
    draw = np.random.default_rng([seed, ref.epoch, ref.place])
    sample = dataset.load(ref, draw)
    if augment is None:
        return sample
    changes = torch.Generator().manual_seed(int(draw.integers(2**63 - 1)))
    return augmented(sample, augment, changes)
