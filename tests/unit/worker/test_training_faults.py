"""Faults of data are told as places: whoever has the files can count, nobody else reads a name."""

from pathlib import Path

import pytest

from service.worker.training_faults import placed


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = (
        "train/fixed_images/doe.nii.gz",
        "train/fixed_images/roe.nii.gz",
        "train/images/doe/2.nii.gz",
        "train/images/roe/1.nii.gz",
        "train/images/roe/2.nii.gz",
        "train/fixed_labels.h5",
        "doe-clinic/lists.csv",
        "doe-clinic/pairs.csv",
    )
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("field", "place"),
    [
        ("/data/splits", "/data/splits"),
        ("train/fixed_images/roe.nii.gz", "train/fixed_images, file 2 of 2 by name"),
        ("train/images/roe/1.nii.gz", "train/images, folder 2 of 2 by name, file 1 of 2 by name"),
        ("train/moving_images", "train/moving_images"),  # of the layout, missing or not
        ("train/fixed_labels.h5:doe-1", "train/fixed_labels.h5"),
        ("doe-clinic/pairs.csv", "folder 1 of 2 by name, file 2 of 2 by name"),
        ("doe-clinic/pairs.csv, row 3", "folder 1 of 2 by name, file 2 of 2 by name, row 3"),
        ("row 3", "row 3"),
        ("doe.nii.gz<-roe.nii.gz", "the data<-the data"),
        (
            "train/fixed_images/roe.nii.gz<-train/images/doe/2.nii.gz",
            "train/fixed_images, file 2 of 2 by name<-train/images, folder 1 of 2 by name, "
            "file 1 of 1 by name",
        ),
        ("train/images/poe/1.nii.gz", "the data"),
        ("poe.csv, row 3", "the data"),
        ("../doe", "the data"),
        ("/srv/doe/1.nii.gz", "the data"),
        ("", "the data"),
    ],
)
def test_a_name_becomes_a_place(root: Path, field: str, place: str) -> None:
    fault = {"field": field, "detail": "It cannot be read.", "more": "doe"}
    assert placed(fault, root) == {"field": place, "detail": "It cannot be read."}


def test_what_the_trainer_places_is_told_in_its_words(root: Path) -> None:
    told = {"field": "doe/lost.nii.gz", "detail": "There is none."}
    where = placed(told | {"place": "doe-clinic/lists.csv, row 12"}, root)["field"]
    assert where == "folder 1 of 2 by name, file 1 of 2 by name, row 12"
    assert placed(told | {"place": "group 2 of 9"}, root)["field"] == "group 2 of 9"
    assert placed(told | {"place": ["doe"]}, root)["field"] == "the data"


def test_without_data_only_pointers_and_numbers_are_told() -> None:
    assert placed({"field": "train/fixed_images/doe.nii.gz"}, None)["field"] == "the data"
    assert placed({"field": "pair 7"}, None)["field"] == "pair 7"
