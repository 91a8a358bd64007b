"""`warpline evaluate` and `crossval`: how models and pairs are named, and what is said."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from service.cli.trainer_process import options
from service.errors import ModelNotFoundError, TrainingDataError
from service.registration.models_folder import default_models_dir
from trainer.evaluation.command import main, read_pairs, served


def test_a_model_is_named_by_reference_by_folder_or_by_its_training(tmp_path: Path) -> None:
    shipped = default_models_dir()
    assert served("discrete@production").ref == "discrete@production"
    by_folder = served(str(shipped / "discrete" / "1"))
    assert by_folder.load().card.name == "discrete"
    assert by_folder.load() is by_folder.load()
    training = tmp_path / "training"
    (training / "model").mkdir(parents=True)
    with pytest.raises(ModelNotFoundError, match="holds 0 models"):
        served(str(training))
    (training / "model" / "discrete").symlink_to(shipped / "discrete")
    assert served(str(training)).ref == "discrete/1"


def test_pairs_of_a_list_are_relative_to_it_and_all_faults_are_told(tmp_path: Path) -> None:
    for name in ("a.nii", "b.nii", "a_seg.nii"):
        (tmp_path / name).touch()
    rows = ["name,fixed,moving,fixed_labels", "one,a.nii,b.nii,a_seg.nii", ",b.nii,a.nii,"]
    (tmp_path / "pairs.csv").write_text("\n".join(rows))
    one, two = read_pairs(tmp_path / "pairs.csv")
    assert (one.name, two.name) == ("one", "pair 2")
    assert one.fixed_labels is not None
    assert one.fixed_labels.path == tmp_path / "a_seg.nii"
    assert two.fixed_labels is None
    (tmp_path / "pairs.csv").write_text("\n".join([*rows, "x,no.nii,b.nii,no_seg.nii", "y,a.nii,"]))
    with pytest.raises(TrainingDataError, match="3 files") as caught:
        read_pairs(tmp_path / "pairs.csv")
    assert [fault["field"] for fault in caught.value.errors] == ["row 3", "row 3", "row 4"]


def test_bad_input_is_a_sentence_or_a_problem_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["discrete", "--out", str(tmp_path)]) == 2
    assert "--pairs" in capsys.readouterr().err
    (tmp_path / "pairs.csv").write_text("fixed,moving\n")
    line = ["nobody", "--pairs", str(tmp_path / "pairs.csv"), "--out", str(tmp_path), "--json"]
    assert main(line) == 2
    assert json.loads(capsys.readouterr().out)["code"] == "training-data-invalid"
    assert main(["discrete", "no.yaml", "--out", str(tmp_path)]) == 1
    assert "no.yaml" in capsys.readouterr().err


def test_options_become_a_command_line() -> None:
    line = options(out=Path("x"), set=["a=1", "b=2"], fold=0, resume=True, json=False, data=None)
    assert line == ["--out", "x", "--set", "a=1", "--set", "b=2", "--fold", "0", "--resume"]
