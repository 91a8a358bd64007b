"""Evaluation runs the serving pipeline: its figures are those of the delivered files."""

import csv
import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("torch")

from service.errors import TrainingDataError
from service.registration.files.points_file import write_points
from service.registration.files.volume_file import write_volume
from service.registration.grid import Grid
from service.registration.models_folder import ModelFolder
from service.registration.points import WorldPoints
from service.registration.volume import Volume
from tests.phantoms import phantom_pair
from trainer.evaluate import (
    EvaluationCase,
    EvaluationOptions,
    ServedModel,
    evaluate,
)
from trainer.evaluation.cases import pair_set_digest

GRID = Grid((30, 28, 24), np.diag([-2.0, 2.0, 2.5, 1.0]))
HOW = EvaluationOptions(initialise="none", shown=1, data="phantoms")


def _case(folder: Path, seed: int) -> EvaluationCase:
    pair = phantom_pair(GRID, GRID, most_mm=4.0, seed=seed)
    points = WorldPoints(GRID.to_world(np.random.default_rng(seed).uniform(8, 16, (12, 3))))
    paths = {}
    for role in ("fixed", "moving", "fixed_labels", "moving_labels"):
        paths[role] = folder / f"{seed}-{role}.nii"
        write_volume(paths[role], getattr(pair, role))
    for role, moved in (("fixed_points", points), ("moving_points", points.moved(pair.truth))):
        paths[role] = folder / f"{seed}-{role}.csv"
        write_points(paths[role], moved)
    return EvaluationCase.of_files(f"pair <{seed}>", **paths)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[EvaluationCase]:
    folder = tmp_path_factory.mktemp("phantoms")
    return [_case(folder, seed) for seed in (1, 2, 3)]


@pytest.fixture(scope="module")
def served() -> ServedModel:
    return ServedModel(ModelFolder(provider="cpu", threads=1), "discrete")


@pytest.fixture(scope="module")
def out(
    cases: list[EvaluationCase], served: ServedModel, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("out")
    evaluate(served, cases, folder, options=HOW)
    return folder


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_pair_and_label_has_a_row_and_gets_better(out: Path) -> None:
    rows = _rows(out / "metrics.csv")
    assert [(row["pair"], row["label"]) for row in rows] == [
        (f"pair <{n}>", label) for n in (1, 2, 3) for label in ("1", "2", "all")
    ]
    for row in rows:
        assert float(row["dice"]) > float(row["dice_before"])
        if row["label"] == "all":
            assert float(row["tre_mm"]) < float(row["tre_mm_before"])
            assert float(row["folding_fraction"]) == 0
            assert float(row["seconds"]) > 0
        else:
            assert row["tre_mm"] == ""


def test_the_rows_are_what_the_delivered_files_say(out: Path, cases: list[EvaluationCase]) -> None:
    """Read with nibabel, counted by hand."""
    told = json.loads((out / "evaluation.json").read_text())
    (kept,) = [p for p in (out / "pairs").iterdir() if p.name.endswith(told["worst"][0][6:-1])]
    case = next(case for case in cases if case.name == told["worst"][0])
    fixed = np.asarray(nib.load(case.fixed_labels.path).dataobj)
    warped = np.asarray(nib.load(kept / "warped_labels.nii.gz").dataobj)
    rows = {r["label"]: r for r in _rows(out / "metrics.csv") if r["pair"] == case.name}
    for label in (1, 2):
        a, b = fixed == label, warped == label
        expected = 2 * (a & b).sum() / (a.sum() + b.sum())
        assert float(rows[str(label)]["dice"]) == pytest.approx(expected, abs=1e-5)
        middles = [np.argwhere(x).mean(axis=0) * (2.0, 2.0, 2.5) for x in (a, b)]
        apart = np.linalg.norm(middles[0] - middles[1])
        assert float(rows[str(label)]["centroid_mm"]) == pytest.approx(apart, abs=1e-4)
    mean = np.mean([float(rows[n]["dice"]) for n in ("1", "2")])
    assert float(rows["all"]["dice"]) == pytest.approx(mean, abs=1e-5)


def test_the_summary_holds_figures_for_the_card(out: Path, cases: list[EvaluationCase]) -> None:
    told = json.loads((out / "evaluation.json").read_text())
    values = [float(r["dice"]) for r in _rows(out / "metrics.csv") if r["label"] == "all"]
    summary = told["statistics"]["all"]["dice"]
    assert summary["mean"] == pytest.approx(np.mean(values), abs=1e-5)
    assert summary["std"] == pytest.approx(np.std(values, ddof=1), abs=1e-5)
    assert summary["worst_30"] == pytest.approx(np.quantile(values, 0.3), abs=1e-5)
    errors = [float(r["tre_mm"]) for r in _rows(out / "metrics.csv") if r["label"] == "all"]
    assert told["statistics"]["all"]["tre_mm"]["worst_30"] == pytest.approx(
        np.quantile(errors, 0.7), abs=1e-4
    )
    figure = told["figures"][0]
    assert (figure["metric"], figure["pairs"]) == ("mean Dice of the labels", 3)
    assert figure["after"] == pytest.approx(summary["mean"], abs=1e-4)
    assert told["pair_set"] == pair_set_digest(reversed(cases))
    assert told["pair_set"] != pair_set_digest(cases[:2])


def test_what_the_network_had_to_better_is_measured_too(
    cases: list[EvaluationCase], served: ServedModel, out: Path, tmp_path: Path
) -> None:
    """Without an initial alignment the start is the headers'."""
    for row in _rows(out / "metrics.csv"):
        assert row["dice_initial"] == row["dice_before"]
        assert row["tre_mm_initial"] == row["tre_mm_before"]
    how = EvaluationOptions(initialise="moments", shown=0)
    found = evaluate(served, cases[:1], tmp_path, options=how)
    whole = next(row for row in found.rows if row.label == "all").figures
    assert whole["tre_mm"] < whole["tre_mm_initial"] < whole["tre_mm_before"]
    figure = next(figure for figure in found.figures if "TRE" in figure.metric)
    assert figure.before == pytest.approx(whole["tre_mm_initial"], abs=1e-4)
    assert "moments" in found.figures[0].how


def test_only_the_worst_and_the_best_results_stay_on_disk(out: Path) -> None:
    told = json.loads((out / "evaluation.json").read_text())
    assert len(told["worst"] + told["best"]) == 2
    assert len(list((out / "pairs").iterdir())) == 2
    assert not list(out.rglob("inputs"))


def test_the_page_needs_nothing_else_and_escapes_names(out: Path) -> None:
    page = (out / "evaluation.html").read_text("utf-8")
    assert "pair &lt;1&gt;" in page or "pair &lt;2&gt;" in page
    assert "pair <" not in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "<script" not in page
    assert page.count("data:image/png;base64,") == 8  # two pairs; images and labels; twice


def test_two_models_are_compared_on_the_same_pairs(
    cases: list[EvaluationCase], served: ServedModel, tmp_path: Path
) -> None:
    found = evaluate(served, cases[:2], tmp_path, against=served, options=HOW)
    assert found.comparison is not None
    assert found.comparison.first_is == "no clear difference"
    told = json.loads((tmp_path / "comparison.json").read_text())
    assert told["decided_by"] == "dice"
    assert told["metrics"]["dice"]["ties"] == 2
    assert told["metrics"]["dice"]["p"] is None
    assert told["pair_set"] == pair_set_digest(cases[:2])
    assert (tmp_path / "against" / "metrics.csv").is_file()
    assert "No clear difference" in (tmp_path / "evaluation.html").read_text("utf-8")


def test_labels_that_overlap_are_measured_one_by_one(served: ServedModel, tmp_path: Path) -> None:
    """Two channels that are the same must have the same figures as the map of one label."""
    case, files = _case(tmp_path, 4), {}
    for role in ("fixed_labels", "moving_labels"):
        image = nib.load(getattr(case, role).path)
        inside = (np.asarray(image.dataobj) > 0).astype(np.uint8)
        files[role] = tmp_path / f"stack-{role}.nii"
        stack = np.stack([inside, inside, np.zeros_like(inside)], axis=-1)
        nib.save(nib.Nifti1Image(stack, image.affine), files[role])
        files[f"flat_{role}"] = tmp_path / f"flat-{role}.nii"
        nib.save(nib.Nifti1Image(inside, image.affine), files[f"flat_{role}"])
    images = {"fixed": case.fixed.path, "moving": case.moving.path}
    stacked = EvaluationCase.of_files(
        "s", **images, fixed_labels=files["fixed_labels"], moving_labels=files["moving_labels"]
    )
    flat = EvaluationCase.of_files(
        "f",
        **images,
        fixed_labels=files["flat_fixed_labels"],
        moving_labels=files["flat_moving_labels"],
    )
    found = evaluate(served, [stacked, flat], tmp_path / "out", options=HOW)
    dice = {(r.pair, r.label): r.figures["dice"] for r in found.rows if r.label != "all"}
    assert set(dice) == {("s", "1"), ("s", "2"), ("f", "1")}
    assert dice["s", "1"] == dice["s", "2"] == dice["f", "1"]


def test_a_pair_that_cannot_be_registered_is_told_and_counts_in_no_figure(
    cases: list[EvaluationCase], served: ServedModel, tmp_path: Path
) -> None:
    flat = Volume(np.ones(GRID.shape, np.float32), GRID)
    write_volume(tmp_path / "flat.nii", flat)
    bad = EvaluationCase.of_files("flat", fixed=tmp_path / "flat.nii", moving=tmp_path / "flat.nii")
    found = evaluate(served, [bad, cases[0]], tmp_path / "out", options=HOW)
    assert found.pairs == 1
    assert [(f.pair, f.code) for f in found.failures] == [("flat", "no-contrast")]
    assert "flat" in (tmp_path / "out" / "evaluation.html").read_text("utf-8")
    with pytest.raises(TrainingDataError, match="None of the 1 pairs"):
        evaluate(served, [bad], tmp_path / "out", options=HOW)
    with pytest.raises(TrainingDataError, match="no pairs"):
        evaluate(served, [], tmp_path / "out", options=HOW)
