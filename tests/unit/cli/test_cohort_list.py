"""Lists, folders and patterns of subjects; what is wrong with them, all at once."""

from pathlib import Path

import pytest

from service.cli.cohort_list import Subject, read_subjects
from service.errors import ValidationError


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    for name in ("b.nii.gz", "a.NII", "labels.nii.gz", "sub-1/t1.nii", "sub-2/t1.nii", "dicom/1"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    (folder / "notes.txt").write_text("x")
    (folder / ".hidden.nii").write_bytes(b"x")
    return folder


def listed(images: Path, *lines: str) -> list[Subject]:
    path = images / "list.csv"
    path.write_text("\n".join(lines), encoding="utf-8-sig")
    return read_subjects(str(path), images / "fixed.nii")


def faults(images: Path, *lines: str) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        listed(images, *lines)
    return [fault["field"] for fault in caught.value.errors]


def test_paths_are_relative_to_the_list_and_ids_come_from_files(images: Path) -> None:
    found = listed(images, "moving,moving_labels", "b.nii.gz,labels.nii.gz", "", "dicom,", "# no")
    assert found[0] == Subject(
        "b", {"moving": images / "b.nii.gz", "moving_labels": images / "labels.nii.gz"}
    )
    assert [one.id for one in found] == ["b", "dicom"]
    assert found[1].files == {"moving": images / "dicom"}
    named = listed(images, "Moving; ID", "sub-1/t1.nii; one", "sub-2/t1.nii; ", "a.NII;x.y_z")
    assert [one.id for one in named] == ["one", "t1", "x.y_z"]


def test_files_of_one_name_are_called_after_their_folders(images: Path) -> None:
    found = listed(images, "moving", "sub-1/t1.nii", "sub-2/t1.nii", "b.nii.gz")
    assert [one.id for one in found] == ["sub-1_t1", "sub-2_t1", "b"]


def test_every_fault_is_told_with_its_line(images: Path) -> None:
    told = faults(
        images,
        "id,moving,moving_points",
        "one,b.nii.gz,",
        "two,gone.nii.gz,none.csv",
        "ONE,a.NII,",
        "../up,a.NII,",
        ",,",
        "three,,dicom",
        "cohort.csv,a.NII,",
        "a,b,c,d",
    )
    assert told == [
        "line 3, moving",
        "line 3, moving_points",
        "line 7, moving",
        "line 7, moving_points",
        "line 9, LIST",
        "line 4, id",
        "line 5, id",
        "line 8, id",
    ]
    assert faults(images, "image", "b.nii.gz") == ["line 1, moving", "line 1, image"]
    assert faults(images, "") == ["line 1, LIST"]
    (images / "list.bin").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValidationError, match="no text"):
        read_subjects(str(images / "list.bin"), images)


def test_a_folder_or_a_pattern_is_a_list_without_the_fixed_image(images: Path) -> None:
    folder = read_subjects(str(images), images / "b.nii.gz")
    assert [one.id for one in folder] == ["a", "dicom", "labels", "sub-1", "sub-2"]
    pattern = read_subjects(str(images / "*/*.nii"), images / "b.nii.gz")
    assert [one.id for one in pattern] == ["sub-1_t1", "sub-2_t1"]
    with pytest.raises(ValidationError, match="no image"):
        read_subjects(str(images / "*.mha"), images / "b.nii.gz")
