"""Comparing systems: what each reaches, and that none stops the others."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from benchmarks.comparison import results
from benchmarks.comparison.cases import Case, Landmarks
from benchmarks.comparison.registry import System
from benchmarks.comparison.results import Row
from benchmarks.comparison.running import Terms, compare
from benchmarks.comparison.scoring import NothingToScoreError, mean_dice
from tests.fakes.peer_systems import told

FAKES = "tests.fakes.peer_systems"


def fake(name: str, *arguments: str, stays: bool = False) -> System:
    return System(name, f"{FAKES}:{name}", arguments, of_ours=True, stays=stays)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """Two blocks of labels, of which one is half as long in the moving image."""
    fixed, moving = np.zeros((2, 8, 6, 5), np.int16)
    fixed[:4, :2], fixed[4:, 3:] = 3, 7
    moving[:4, :2], moving[6:, 3:] = 3, 7
    paths = tmp_path / "fixed.nii.gz", tmp_path / "moving.nii.gz"
    for path, data in zip(paths, (fixed, moving), strict=True):
        nibabel.save(nibabel.Nifti1Image(data, np.diag([0.7, 1.3, 4.0, 1.0])), path)
    here = np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])
    marks = Landmarks("outside", here, np.add(here, (3.0, 0.0, 0.0)))
    return Case("blocks", "a<-b", *paths, paths, (marks,))


@pytest.fixture
def run(tmp_path: Path, case: Case) -> Callable[..., list[Row]]:
    lines = tmp_path / "rows.jsonl"

    def run(*systems: System, limit_s: float = 300.0, again: bool = False) -> list[Row]:
        terms = Terms("no-such-python", tmp_path / "log", limit_s, again, tell=told)
        return compare(systems, [case], lines, terms)

    return run


def test_labels_and_points_are_scored_by_one_code(run: Callable[..., list[Row]]) -> None:
    (row,) = run(fake("shifting", "1.0"))
    # The whole block overlaps fully, the half one by 2 * 1 / (2 + 1); 3 mm less the shift of 1.
    assert row.measures == pytest.approx(
        {"Dice": (1 + 2 / 3) / 2, "TRE, mm, outside": 2.0}, abs=1e-5
    )
    assert (row.status, row.category, row.case) == ("ok", "blocks", "a<-b")
    assert row.seconds is not None
    assert row.seconds > 0


def test_a_system_that_cannot_does_not_stop_the_others(run: Callable[..., list[Row]]) -> None:
    names = ("refusing", "missing", "dying", "losing_points", "shifting")
    rows = run(*(fake(name, *(["0"] if name == "shifting" else [])) for name in names))
    assert [row.status for row in rows] == ["failed"] * 4 + ["ok"]
    assert [row.error for row in rows[:4]] == [
        "ValueError: the images are of no use",
        "ModuleNotFoundError: No module named 'the_peer'",
        "Ended with code 3.",
        "Points were lost.",
    ]


def test_a_python_that_is_not_there_is_a_failure(run: Callable[..., list[Row]]) -> None:
    (row,) = run(replace(fake("shifting", "0"), of_ours=False))
    assert row.status == "failed"
    assert row.error == "There is no Python at no-such-python."


def test_a_system_without_an_answer_in_time_is_ended(run: Callable[..., list[Row]]) -> None:
    (slow,) = run(fake("sleeping"), limit_s=1.0)
    assert (slow.status, slow.error, slow.seconds) == ("too slow", "No answer in 1 s.", None)
    _, after = run(fake("timing_itself"))
    assert after.seconds == 0.125


def test_what_is_known_is_not_run_again_unless_asked(
    run: Callable[..., list[Row]], tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    system = fake("shifting", "0", str(calls))
    first = run(system)
    assert run(system) == first
    assert calls.read_text() == "x"
    run(system, again=True)
    assert calls.read_text() == "xx"
    assert len(results.read(tmp_path / "rows.jsonl")) == 1


def test_a_system_named_twice_has_two_turns_and_one_that_stays_warms_up_once(
    run: Callable[..., list[Row]], tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    ours = fake("shifting", "0", str(calls), stays=True)
    rows = run(ours, fake("timing_itself"), ours)
    assert [(row.system, row.turn) for row in rows] == [
        ("shifting", 0),
        ("timing_itself", 0),
        ("shifting", 1),
    ]
    assert calls.read_text() == "xxx"


def test_rows_are_there_as_they_come_and_a_cut_line_is_left_out(tmp_path: Path) -> None:
    lines = tmp_path / "rows.jsonl"
    row = Row("blocks", "a<-b", "ours", seconds=1.25, measures={"Dice": 0.5})
    results.append(lines, row)
    results.append(lines, replace(row, turn=1))
    results.append(lines, replace(row, seconds=0.5))
    with lines.open("a") as text:
        text.write('{"category": "blo')
    assert results.read(lines) == [replace(row, seconds=0.5), replace(row, turn=1)]
    results.append(lines, replace(row, turn=2))
    assert [found.turn for found in results.read(lines)] == [0, 1, 2]
    results.rewrite(lines, results.read(lines))
    assert len(lines.read_text().splitlines()) == 3


def test_labels_that_are_not_there_or_no_image_cannot_be_scored(tmp_path: Path) -> None:
    (tmp_path / "damaged.nii.gz").write_bytes(b"no image")
    numbers = np.full((2, 2, 2), np.nan, np.float32)
    nibabel.save(nibabel.Nifti1Image(numbers, np.eye(4)), tmp_path / "nan.nii.gz")
    for name in ("damaged.nii.gz", "nan.nii.gz", "missing.nii.gz"):
        with pytest.raises(NothingToScoreError):
            mean_dice(tmp_path / name, tmp_path / name)
