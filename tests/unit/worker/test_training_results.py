"""What the trainer's evaluation writes is what the registry reads."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from service.errors import StorageFullError, TrainingDataError, TrainingFailedError
from service.worker.training_results import LARGE_IS_GOOD, _comparison, error_of
from trainer.evaluation.comparison import compare
from trainer.evaluation.measures import METRICS
from trainer.evaluation.statistics import WHOLE, Row


def rows(dice: list[float], tre_mm: list[float]) -> list[Row]:
    figures = zip(dice, tre_mm, strict=True)
    return [Row(f"p{n}", WHOLE, {"dice": d, "tre_mm": t}) for n, (d, t) in enumerate(figures)]


def written(folder: Path, first: list[Row], second: list[Row]) -> Path:
    """`comparison.json` as `trainer.evaluate` puts it together."""
    models = {"first": {"name": "toy", "version": "2"}, "second": {"name": "toy", "version": "1"}}
    document = models | {"pair_set": "d" * 64} | asdict(compare(first, second, METRICS))
    (folder / "comparison.json").write_text(json.dumps(document, allow_nan=False))
    return folder


def test_both_sides_agree_on_which_figures_are_good() -> None:
    assert {name for name, (is_large_good, _) in METRICS.items() if is_large_good} == LARGE_IS_GOOD


@pytest.mark.parametrize(("gain", "verdict"), [(0.1, "better"), (-0.1, "worse"), (0.0, "equal")])
def test_a_comparison_is_read_as_the_evaluation_wrote_it(
    gain: float, verdict: str, tmp_path: Path
) -> None:
    dice = [0.5 + n / 100 for n in range(8)]
    tre_mm = [3.0 - n / 10 for n in range(8)]
    ours = rows([d + gain for d in dice], [t - gain for t in tre_mm])
    found = _comparison(written(tmp_path, ours, rows(dice, tre_mm)))
    assert found is not None
    assert (found.against, found.pairs, found.verdict) == ("toy/1", 8, verdict)
    assert found.metrics["dice"].candidate == pytest.approx(found.metrics["dice"].production + gain)
    assert not found.metrics["tre_mm"].higher_is_better
    wins = {0.1: (8, 0), -0.1: (0, 8), 0.0: (0, 0)}[gain]
    assert (found.metrics["dice"].wins, found.metrics["dice"].losses) == wins


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"second": 1}', "\x00"])
def test_what_is_no_comparison_counts_as_none(text: str, tmp_path: Path) -> None:
    assert _comparison(tmp_path) is None
    (tmp_path / "comparison.json").write_text(text)
    assert _comparison(tmp_path) is None


def test_errors_come_back_as_what_they_were() -> None:
    faults = [{"field": "train", "detail": "x"}, "nonsense"] * 300
    told = error_of({"code": "training-data-invalid", "detail": "d" * 9000, "errors": faults})
    assert isinstance(told, TrainingDataError)
    assert len(told.detail) == 2000
    assert len(told.errors) == 200
    assert isinstance(error_of({"code": "storage-full"}), StorageFullError)
    for odd in (
        {},
        {"code": 3, "detail": None, "errors": 7},
        {"code": "error"},
        {"code": "fenced-out"},
    ):
        assert isinstance(error_of(odd), TrainingFailedError)
