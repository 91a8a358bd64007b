"""Two models on the same pairs: paired differences and whether they mean anything."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from trainer.evaluation.statistics import WHOLE, Row

Judgement = Literal["better", "worse", "no clear difference"]

SIGNIFICANT = 0.05
# Up to so many pairs the p-value is exact.
MOST_EXACT = 25
# The first of these that was measured decides.
DECIDING = ("dice", "tre_mm", "centroid_mm", "ncc")


@dataclass(frozen=True)
class Paired:
    """One metric of two models on the same pairs; differences are first minus second.

    `wins` counts pairs on which the first is better. `p` is Wilcoxon's signed-rank test,
    two-sided; None where all are equal.
    """

    pairs: int
    first: float
    second: float
    mean_difference: float
    median_difference: float
    std_difference: float
    wins: int
    losses: int
    ties: int
    p: float | None
    first_is: Judgement


@dataclass(frozen=True)
class Comparison:
    """Every metric; `decided_by` is the one that the judgement rests on."""

    metrics: dict[str, Paired]
    decided_by: str | None
    first_is: Judgement


def compare(
    first: Sequence[Row], second: Sequence[Row], metrics: Mapping[str, tuple[bool, str]]
) -> Comparison:
    """The first model against the second, on the pairs that both registered."""
    ours, theirs = (
        {row.pair: row.figures for row in rows if row.label == WHOLE} for rows in (first, second)
    )
    names = [name for name in ours if name in theirs]
    found = {}
    for metric, (is_large_good, _) in metrics.items():
        values = [
            (ours[name].get(metric, math.nan), theirs[name].get(metric, math.nan)) for name in names
        ]
        known = np.array([pair for pair in values if all(map(math.isfinite, pair))])
        if known.size:
            found[metric] = _paired(known[:, 0], known[:, 1], is_large_good=is_large_good)
    decided_by = next((metric for metric in DECIDING if metric in found), None)
    first_is = found[decided_by].first_is if decided_by else "no clear difference"
    return Comparison(found, decided_by, first_is)


def _paired(first: np.ndarray, second: np.ndarray, *, is_large_good: bool) -> Paired:
    difference = first - second
    gain = difference if is_large_good else -difference
    p = signed_rank_p(difference)
    judgement: Judgement = "no clear difference"
    if p is not None and p < SIGNIFICANT:
        ranked = _mean_ranks(np.abs(gain)) * np.sign(gain)
        judgement = "better" if ranked.sum() > 0 else "worse"
    return Paired(
        pairs=len(first),
        first=float(first.mean()),
        second=float(second.mean()),
        mean_difference=float(difference.mean()),
        median_difference=float(np.median(difference)),
        std_difference=float(difference.std(ddof=1)) if len(difference) > 1 else 0.0,
        wins=int((gain > 0).sum()),
        losses=int((gain < 0).sum()),
        ties=int((gain == 0).sum()),
        p=p,
        first_is=judgement,
    )


def signed_rank_p(differences: np.ndarray) -> float | None:
    """The two-sided p-value of Wilcoxon's signed-rank test; None where all are 0.

    Differences of 0 are left out, equal ones share their mean rank. Exact for up to 25
    differences, ties included; above that by the normal distribution with the variance corrected
    for ties, without correction for continuity.

    Source: Wilcoxon, Individual Comparisons by Ranking Methods, Biometrics Bulletin 1945; Pratt
    and Gibbons, Concepts of Nonparametric Theory, 1981.
    """
    kept = differences[differences != 0]
    if not len(kept):
        return None
    ranks = _mean_ranks(np.abs(kept))
    positive = float(ranks[kept > 0].sum())
    if len(kept) <= MOST_EXACT:
        return _exact(ranks, positive)
    spread = math.sqrt(float((ranks**2).sum()) / 4)
    return math.erfc(abs(positive - ranks.sum() / 2) / spread / math.sqrt(2))


def _mean_ranks(values: np.ndarray) -> np.ndarray:
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[which], dtype=np.float64)


def _exact(ranks: np.ndarray, positive: float) -> float:
    """Twice the smaller tail over all signs; ranks are halves, so doubled ones are whole."""
    doubled = np.rint(2 * ranks).astype(int)
    ways = np.zeros(doubled.sum() + 1)
    ways[0] = 1
    for rank in doubled:
        ways[rank:] = ways[rank:] + ways[: len(ways) - rank]
    at = round(2 * positive)
    tail = min(ways[: at + 1].sum(), ways[at:].sum())
    return float(min(1.0, 2 * tail / ways.sum()))
