"""Everything that is wrong with the data is told at once, and nothing outside the root is read."""

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydantic import ValidationError

from service.errors import TrainingDataError
from service.registration.files.points_file import write_points
from service.registration.files.volume_file import write_volume
from service.registration.grid import Grid
from service.registration.points import WorldPoints
from service.registration.volume import Volume
from trainer.config.data import DataConfig, GridConfig, GroupedConfig, Row
from trainer.config.splits import ExplicitSplits, FractionSplits
from trainer.data.dataset import check_data, open_dataset


def faults(config: DataConfig) -> dict[str, str]:
    """Detail by file, of a check of everything."""
    with pytest.raises(TrainingDataError) as caught:
        check_data(config)
    found = caught.value.errors
    assert len({(fault["field"], fault["detail"]) for fault in found}) == len(found)
    return {fault["field"]: fault["detail"] for fault in found}


def test_all_faults_are_told_at_once(
    paired_folder: Path, write_case: Callable[..., Volume]
) -> None:
    train = paired_folder / "train"
    (train / "fixed_images/a.nii.gz").write_bytes(b"not an image")
    (train / "moving_images/b.nii.gz").unlink()
    write_case(train / "fixed_labels/c.nii.gz", shape=(9, 9, 9))
    write_case(train / "fixed_labels/d.nii.gz")
    write_points(train / "moving_points/c.csv", WorldPoints(np.zeros((2, 3))))
    write_points(train / "fixed_points/c.csv", WorldPoints(np.zeros((3, 3))))
    text = (train / "moving_points/c.csv").read_text()
    for role in ("fixed", "moving"):  # without names, points correspond row by row
        path = train / f"{role}_points/c.csv"
        path.write_text("\n".join(line.split(",", 1)[1] for line in path.read_text().splitlines()))
    (train / "moving_labels/a.nii.gz").unlink()
    config = DataConfig(root=str(paired_folder), labels="required", points="optional")
    found = faults(config)
    assert text.startswith("id")
    assert "no format" in found["train/fixed_images/a.nii.gz"]
    assert "moving image of the same name" in found["train/fixed_images/b.nii.gz"]
    assert "grid of their image" in found["train/fixed_labels/c.nii.gz"]
    assert "image of the same name is missing" in found["train/fixed_labels/d.nii.gz"]
    assert "2 moving points for 3" in found["train/moving_points/c.csv"]
    assert "labels are required" in found["train/moving_images/a.nii.gz"]


def test_a_sound_data_set_passes(paired_folder: Path) -> None:
    check_data(DataConfig(root=str(paired_folder), labels="required", check_voxels=True))


def test_a_damaged_end_is_found_when_voxels_are_checked(paired_folder: Path) -> None:
    path = paired_folder / "train/fixed_images/b.nii.gz"
    data = bytearray(path.read_bytes())
    data[-3] ^= 0xFF
    path.write_bytes(data)
    config = DataConfig(root=str(paired_folder))
    check_data(config)
    assert list(faults(config.model_copy(update={"check_voxels": True}))) == [
        "train/fixed_images/b.nii.gz"
    ]
    dataset = open_dataset(config, "train", multiple=4, cache=paired_folder / "cache", seed=0)
    ref = next(ref for ref in dataset.pairs(0) if "b.nii.gz" in ref.name)
    with pytest.raises(TrainingDataError) as caught:
        dataset.load(ref, np.random.default_rng(0))
    assert caught.value.errors[0]["field"] == "train/fixed_images/b.nii.gz"


@pytest.mark.parametrize("name", ["../secret.nii", "/etc/passwd", "a/../../b.nii", "", "a\\b"])
def test_the_configuration_names_nothing_outside_the_root(name: str) -> None:
    for make in (lambda: Row(image=name), lambda: ExplicitSplits(train=(name,))):
        with pytest.raises(ValidationError):
            make()


@pytest.mark.parametrize("place", ["train", "train/fixed_images", "train/fixed_images/a.nii.gz"])
def test_links_are_not_followed(paired_folder: Path, tmp_path: Path, place: str) -> None:
    here = paired_folder / place
    there = tmp_path / "elsewhere"
    here.rename(there)
    here.symlink_to(there)
    found = faults(DataConfig(root=str(paired_folder)))
    assert "symbolic link" in found[place]


def test_links_in_lists_are_not_followed_and_rows_must_fit(
    unpaired_folder: Path, tmp_path: Path
) -> None:
    (unpaired_folder / "other").symlink_to("/etc")
    (unpaired_folder / "list.csv").write_text(
        "image,labels,colour\nimages/case0.nii.gz,,\nother/passwd,,\nimages/no.nii.gz,,\n"
        "images/case1.nii.gz,labels/case1.nii.gz,red\n../up.nii.gz,,\n"
    )
    config = DataConfig(
        root=str(unpaired_folder),
        pairing="unpaired",
        format="list",
        labels="optional",
        splits=ExplicitSplits(train=("list.csv",)),
    )
    found = faults(config)
    assert "symbolic link" in found["other/passwd"]
    assert "no such file" in found["images/no.nii.gz"]
    assert found["list.csv, row 4"].startswith("A column is none of fixed, moving")
    assert found["list.csv, row 5"].startswith("image")


@pytest.mark.parametrize("text", ["", "{", '["a"]', "image,labels\na,b,c\n", '{"image": 1}'])
def test_what_is_no_list_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "list.csv").write_text(text)
    config = DataConfig(
        root=str(tmp_path), format="list", splits=ExplicitSplits(train=("list.csv",))
    )
    assert set(faults(config)) & {"list.csv", "list.csv, row 1", "/data/splits"}


def test_wrong_dimensions_and_too_large_grids_are_told(tmp_path: Path) -> None:
    for n, shape in enumerate([(6, 5, 4), (6, 5), (6, 5, 4, 2)]):
        (tmp_path / "images").mkdir(exist_ok=True)
        image = nibabel.Nifti1Image(np.zeros(shape, np.float32), np.eye(4))
        nibabel.save(image, tmp_path / f"images/{n}.nii")
    config = DataConfig(
        root=str(tmp_path), pairing="unpaired", splits=FractionSplits(valid=0, test=0)
    )
    found = faults(config)
    assert "a slice" in found["images/1.nii"]
    assert "2 volumes" in found["images/2.nii"]
    fine = config.model_copy(update={"grid": GridConfig(spacing_mm=0.01)})
    assert "max_voxels" in faults(fine)["images/0.nii"]


def test_an_empty_training_split_is_told(tmp_path: Path) -> None:
    (tmp_path / "train/fixed_images").mkdir(parents=True)
    (tmp_path / "train/moving_images").mkdir()
    assert "There is no image in it." in faults(DataConfig(root=str(tmp_path))).values()
    nowhere = DataConfig(root=str(tmp_path / "nowhere"))
    assert "data root" in faults(nowhere)


def test_groups_of_one_image_each_have_no_pair_within(tmp_path: Path) -> None:
    for name in ("anna", "ben"):
        folder = tmp_path / "train" / "images" / name
        folder.mkdir(parents=True)
        values = np.arange(27, dtype=np.float32).reshape(3, 3, 3)
        write_volume(folder / "first.nii", Volume(values, Grid((3, 3, 3), np.eye(4))))
    config = DataConfig(root=str(tmp_path), pairing="grouped", splits=ExplicitSplits())
    assert "The training split has no pair." in faults(config).values()
    across = config.model_copy(update={"grouped": GroupedConfig(intra_group_prob=0.5)})
    check_data(across)


@pytest.mark.parametrize(
    "wrong",
    [
        {"pairing": "triples"},
        {"grid": {"ndim": 2, "shape": [4, 4, 4]}},
        {"grid": {"spacing_mm": 0}},
        {"format": "none"},
        {"synthetic": "labels"},
        {"splits": {"kind": "column"}},
        {"grid": {"ndim": 2}, "initialise": "affine"},
        {"grouped": {"intra_group_prob": 0.5, "sample_image_in_group": False}},
        {"folders": {"images": "../up"}},
        {"surprise": 1},
    ],
)
def test_what_does_not_go_together_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DataConfig.model_validate(wrong)
