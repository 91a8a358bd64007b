"""Statistics against scipy and numpy."""

import numpy as np
import pytest

stats = pytest.importorskip("scipy.stats")

from trainer.evaluation.comparison import compare, signed_rank_p  # noqa: E402
from trainer.evaluation.measures import METRICS  # noqa: E402
from trainer.evaluation.ranking import Ranking, score_of  # noqa: E402
from trainer.evaluation.statistics import Row, summarise  # noqa: E402


@pytest.mark.parametrize("count", [1, 5, 12, 25])
def test_the_exact_p_value_is_scipys(count: int, rng: np.random.Generator) -> None:
    differences = rng.normal(0.3, 1.0, count)
    assert signed_rank_p(differences) == pytest.approx(
        stats.wilcoxon(differences, method="exact").pvalue, abs=1e-12
    )


def test_the_normal_p_value_is_scipys_with_ties_and_zeros(rng: np.random.Generator) -> None:
    differences = np.rint(rng.normal(0.4, 2.0, 80))
    assert (differences == 0).any()
    expected = stats.wilcoxon(differences, method="asymptotic", correction=False).pvalue
    assert signed_rank_p(differences) == pytest.approx(expected, rel=1e-9)


def test_equal_differences_are_exact_too() -> None:
    """All signs of ranks 2.5, 2.5, 2.5, 2.5 by hand: all positive is one of 16 cases."""
    assert signed_rank_p(np.full(4, 0.1)) == pytest.approx(2 / 16)
    assert signed_rank_p(np.zeros(4)) is None


def _rows(**columns: list[float]) -> list[Row]:
    count = len(next(iter(columns.values())))
    return [
        Row(f"p{n}", "all", {name: values[n] for name, values in columns.items()})
        for n in range(count)
    ]


def test_better_means_larger_dice_and_smaller_errors() -> None:
    base = np.linspace(0.5, 0.7, 12)
    first = _rows(dice=list(base + 0.05), tre_mm=list(3 - base), hd95_mm=[np.nan] * 12)
    second = _rows(dice=list(base), tre_mm=list(3 - base - 0.1), hd95_mm=[1.0] * 12)
    found = compare(first, second, METRICS)
    assert (found.decided_by, found.first_is) == ("dice", "better")
    assert (found.metrics["dice"].wins, found.metrics["dice"].losses) == (12, 0)
    assert found.metrics["tre_mm"].first_is == "worse"
    assert "hd95_mm" not in found.metrics


def test_only_pairs_that_both_have_are_compared() -> None:
    found = compare(_rows(dice=[0.5, 0.6, 0.7]), _rows(dice=[0.5, 0.6]), METRICS)
    assert found.metrics["dice"].pairs == 2


def test_what_is_not_known_is_left_out_of_a_summary() -> None:
    found = summarise([0.2, np.nan, 0.4, 0.9], is_large_good=True)
    assert found is not None
    assert (found.count, found.mean) == (3, pytest.approx(0.5))
    assert found.worst_30 == pytest.approx(np.quantile([0.2, 0.4, 0.9], 0.3))
    assert summarise([np.nan], is_large_good=True) is None


def test_worst_and_best_are_told_apart_and_the_rest_deleted(tmp_path) -> None:
    ranking = Ranking(tmp_path / "pairs", 2)
    for name, value in zip("abcdefg", (3, 1, 7, 5, 2, 6, 4), strict=True):
        ranking.folder_of(name).mkdir(parents=True)
        ranking.add(name, {"dice": value / 10})
    assert (ranking.worst, ranking.best) == (["b", "e"], ["c", "f"])
    kept = {path.name[-1] for path in (tmp_path / "pairs").iterdir()}
    assert kept == set("becf")
    assert score_of({"tre_mm": 2.0}) > score_of({"tre_mm": 3.0})
