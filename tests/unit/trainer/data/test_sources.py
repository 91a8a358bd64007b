"""Folders, lists and HDF5 files become the same cases; groups stay together."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from service.errors import TrainingDataError
from service.registration.volume import Volume
from trainer.config.data import DataConfig, GridConfig, GroupedConfig, Row
from trainer.config.splits import (
    ColumnSplits,
    ExplicitSplits,
    FoldSplits,
    FractionSplits,
    SplitsConfig,
)
from trainer.data.acquired import AcquiredPairs
from trainer.data.cases import Case, Index, Problems, Source
from trainer.data.dataset import open_acquired
from trainer.data.sampling import epoch_pairs
from trainer.data.splitting import SPLITS, groups_of, read_split

h5py = pytest.importorskip("h5py")

ALL = {"labels": "required", "points": "required", "masks": "required", "sample_label": "all"}


def opened(config: DataConfig, tmp_path: Path) -> AcquiredPairs:
    return open_acquired(config, "train", multiple=8, cache=tmp_path / "cache", seed=1)


def sample(config: DataConfig, tmp_path: Path):
    """The pair that comes first by name."""
    dataset = opened(config, tmp_path)
    ref = min(dataset.pairs(0), key=lambda ref: ref.name)
    return dataset.load(ref, np.random.default_rng(0))


def write_list(root: Path) -> None:
    """A CSV and a JSON list of what paired_folder holds."""
    rows = []
    for name in ("a", "b", "c"):
        row = {}
        for role in ("fixed", "moving"):
            row[role] = f"train/{role}_images/{name}.nii.gz"
            row[f"{role}_labels"] = f"train/{role}_labels/{name}.nii.gz"
            row[f"{role}_points"] = f"train/{role}_points/{name}.csv"
            row[f"{role}_mask"] = f"train/{role}_masks/{name}.nii.gz"
        rows.append(row)
    (root / "pairs.json").write_text(json.dumps(rows))
    with (root / "pairs.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize("kind", ["csv", "json", "rows"])
def test_a_list_gives_what_folders_give(paired_folder: Path, tmp_path: Path, kind: str) -> None:
    write_list(paired_folder)
    root = str(paired_folder)
    expected = sample(DataConfig(root=root, **ALL), tmp_path)
    rows = [Row(**row) for row in json.loads((paired_folder / "pairs.json").read_text())]
    config = DataConfig(
        root=root,
        format="list",
        rows=tuple(rows) if kind == "rows" else (),
        splits=ExplicitSplits(train=() if kind == "rows" else (f"pairs.{kind}",)),
        **ALL,
    )
    found = sample(config, tmp_path)
    assert found.names == expected.names
    for role in ("fixed", "moving_labels", "fixed_points", "moving_mask"):
        np.testing.assert_array_equal(getattr(found, role), getattr(expected, role))


def test_hdf5_gives_what_files_give(paired_folder: Path, tmp_path: Path) -> None:
    import nibabel

    folder = paired_folder / "h5"
    folder.mkdir()
    for role in ("fixed", "moving"):
        for kind in ("images", "labels", "masks"):
            with h5py.File(folder / f"{role}_{kind}.h5", "w") as file:
                for path in (paired_folder / f"train/{role}_{kind}").iterdir():
                    image = nibabel.load(path)
                    file[path.name[0]] = np.asarray(image.dataobj)
                    file[path.name[0]].attrs["affine"] = image.affine
    wanted = {"labels": "required", "masks": "required", "sample_label": "all"}
    expected = sample(DataConfig(root=str(paired_folder), **wanted), tmp_path)
    config = DataConfig(
        root=str(paired_folder), format="hdf5", splits=ExplicitSplits(train=("h5",)), **wanted
    )
    found = sample(config, tmp_path)
    for role in ("fixed", "moving", "moving_labels", "moving_mask"):
        np.testing.assert_allclose(getattr(found, role), getattr(expected, role), atol=1e-5)


def test_hdf5_in_deepregs_layout_with_one_label_along_the_last_axis(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    folder = tmp_path / "root/train"
    folder.mkdir(parents=True)
    with (
        h5py.File(folder / "images.h5", "w") as images,
        h5py.File(folder / "labels.h5", "w") as labels,
    ):
        for key in ("group-1-1", "group-1-2", "group-2-1", "group-2-2"):
            images[key] = draw.random((9, 8, 7))
            labels[key] = (draw.random((9, 8, 7, 3)) > 0.5).astype(np.float64)
    config = DataConfig(
        root=str(tmp_path / "root"),
        format="hdf5",
        pairing="grouped",
        labels="required",
        sample_label="all",
        hdf5_spacing_mm=(1.0, 2.0, 1.0),
    )
    dataset = opened(config, tmp_path)
    assert [list(group) for group in dataset.index.groups().values()] == [[0, 1], [2, 3]]
    batch = dataset.load(dataset.pairs(0)[0], np.random.default_rng(0))
    assert dataset.label_values == (1, 2, 3)
    assert batch.size == (16, 16, 8)
    assert batch.fixed_labels is not None
    with h5py.File(folder / "labels.h5") as labels:
        stored = labels[dataset.index.cases[dataset.pairs(0)[0].fixed].image.key][..., 1]
    # At 1 mm, j = 0, 1 and 2 of 16 are 3/4, 1/4 of the way past centres 0, 0 and 1 of 8.
    np.testing.assert_allclose(batch.fixed_labels[0, 1, :9, 0, :7], stored[:, 0], atol=1e-5)
    blend = 0.75 * stored[:, 0] + 0.25 * stored[:, 1]
    np.testing.assert_allclose(batch.fixed_labels[0, 1, :9, 1, :7], blend, atol=1e-5)


def test_four_dimensional_label_files_are_one_label_each(
    tmp_path: Path, write_case: Callable[..., Volume]
) -> None:
    """Against nibabel's own reading of the file."""
    import nibabel

    root = tmp_path / "root"
    draw = np.random.default_rng(2)
    for name in ("a", "b"):
        image = write_case(root / f"images/{name}.nii.gz", spacing_mm=(1.0, 1.0, 1.0))
        shares = (draw.random((*image.grid.shape, 2)) > 0.6).astype(np.float64)
        (root / "labels").mkdir(exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(shares, image.grid.affine), root / f"labels/{name}.nii.gz")
    config = DataConfig(
        root=str(root), pairing="unpaired", labels="required", sample_label="all",
        splits=FractionSplits(valid=0, test=0),
    )  # fmt: skip
    dataset = opened(config, tmp_path)
    ref = dataset.pairs(0)[0]
    batch = dataset.load(ref, np.random.default_rng(0))
    stored = np.asarray(nibabel.load(dataset.index.cases[ref.fixed].labels.path).dataobj)
    i, j, k = stored.shape[:3]
    assert batch.label_values == ((1, 2),)
    np.testing.assert_allclose(
        batch.fixed_labels[0, :, :i, :j, :k], np.moveaxis(stored, 3, 0), atol=1e-5
    )


def test_a_label_that_one_image_lacks_is_absent_in_both(
    paired_folder: Path, tmp_path: Path
) -> None:
    (paired_folder / "train/moving_labels/a.nii.gz").unlink()
    config = DataConfig(root=str(paired_folder), labels="optional", sample_label="all")
    batch = sample(config, tmp_path)
    assert batch.label_present.tolist() == [[False, False]]
    assert not batch.fixed_labels.any()
    sampled = sample(config.model_copy(update={"sample_label": "sample"}), tmp_path)
    assert sampled.label_values == ((0,),)
    assert sampled.label_present.tolist() == [[False]]


def test_one_label_of_a_pair_is_sampled_and_all_are_met(
    paired_folder: Path, tmp_path: Path
) -> None:
    dataset = opened(DataConfig(root=str(paired_folder), labels="required"), tmp_path)
    ref = dataset.pairs(0)[0]
    seen = [dataset.load(ref, np.random.default_rng(n)) for n in range(8)]
    assert {batch.label_values for batch in seen} == {((1,),), ((2,),)}
    assert {batch.fixed_labels.shape[1] for batch in seen} == {1}


def test_hard_labels_are_one_a_voxel(paired_folder: Path, tmp_path: Path) -> None:
    soft = DataConfig(root=str(paired_folder), labels="required", sample_label="all")
    hard = soft.model_copy(update={"soft_labels": False})
    one, other = sample(soft, tmp_path), sample(hard, tmp_path)
    assert set(np.unique(other.moving_labels)) == {0.0, 1.0}
    assert float((one.moving_labels - other.moving_labels).abs().max()) < 0.75
    assert float(other.moving_labels.sum(dim=1).max()) == 1


def test_slices_are_trained_on_as_slices(tmp_path: Path) -> None:
    """A NIfTI of two axes, as ITK and ANTs write them, with a third spacing of 0 or 1."""
    import nibabel

    root = tmp_path / "root"
    (root / "images").mkdir(parents=True)
    draw = np.random.default_rng(1)
    for name, thickness in (("a", 0.0), ("b", 1.0)):
        image = nibabel.Nifti1Image(draw.random((20, 14)).astype(np.float32), np.eye(4))
        image.header["pixdim"][3] = thickness
        nibabel.save(image, root / f"images/{name}.nii.gz")
    config = DataConfig(
        root=str(root), pairing="unpaired", grid=GridConfig(ndim=2),
        splits=FractionSplits(valid=0, test=0), initialise="moments",
    )  # fmt: skip
    batch = sample(config, tmp_path)
    assert batch.fixed.shape == (1, 1, 24, 16)
    assert batch.spacing_mm == (1.0, 1.0)
    assert float(batch.moving.std()) > 0.1


GROUPS = Index(
    tuple(
        Case(f"g{g}/{n}", f"g{g}", Source(Path("x"), f"g{g}/{n}"))
        for g, count in enumerate((3, 2, 4, 1, 2, 3, 2))
        for n in range(count)
    )
)


@pytest.mark.parametrize(
    "how",
    [FractionSplits(valid=0.3, test=0.3), FoldSplits(folds=3, fold=1), FoldSplits(fold=4)],
)
def test_no_group_is_in_two_splits_and_none_is_lost(how: SplitsConfig) -> None:
    parts = [groups_of(GROUPS, how, split) for split in SPLITS]  # type: ignore[arg-type]
    assert set.union(*parts) == set(GROUPS.groups())
    assert sum(map(len, parts)) == len(GROUPS.groups())
    assert parts[0]
    assert parts[2]


def test_splits_that_leave_nothing_for_training_are_refused() -> None:
    with pytest.raises(ValidationError, match="nothing for training"):
        FractionSplits(valid=0.5, test=0.5)
    assert FractionSplits(valid=0.5, test=0.49).test == 0.49


def test_folds_cover_everything_once() -> None:
    tests = [groups_of(GROUPS, FoldSplits(folds=3, fold=n), "test") for n in range(3)]
    assert set.union(*tests) == set(GROUPS.groups())
    assert sum(map(len, tests)) == len(GROUPS.groups())


def pairs_of(config: GroupedConfig, epoch: int = 0, count: int | None = None):
    data = DataConfig(pairing="grouped", grouped=config, pairs_per_epoch=count)
    return epoch_pairs(GROUPS, data, "train", seed=2, epoch=epoch)


def group(number: int) -> str:
    return GROUPS.cases[number].group


@pytest.mark.parametrize("option", ["forward", "backward", "unconstrained"])
def test_pairs_within_groups_keep_the_order_asked_for(option: str) -> None:
    every = GroupedConfig(intra_group_option=option, sample_image_in_group=False)
    pairs = pairs_of(every)
    expected = sum(n * (n - 1) // 2 for n in (3, 2, 4, 1, 2, 3, 2))
    assert len(set(pairs)) == len(pairs) == expected * (2 if option == "unconstrained" else 1)
    assert all(group(fixed) == group(moving) for fixed, moving in pairs)
    if option == "forward":
        assert all(moving < fixed for fixed, moving in pairs)
    if option == "backward":
        assert all(moving > fixed for fixed, moving in pairs)


def test_one_pair_for_each_group_and_none_for_a_single_image() -> None:
    pairs = pairs_of(GroupedConfig())
    assert sorted(group(fixed) for fixed, _ in pairs) == ["g0", "g1", "g2", "g4", "g5", "g6"]


def test_pairs_between_groups_are_all_of_them_both_ways() -> None:
    between = GroupedConfig(intra_group_prob=0.0, sample_image_in_group=False)
    pairs = pairs_of(between)
    sizes = [3, 2, 4, 1, 2, 3, 2]
    assert len(set(pairs)) == sum(sizes) ** 2 - sum(n * n for n in sizes)
    sampled = pairs_of(GroupedConfig(intra_group_prob=0.0))
    assert all(group(fixed) != group(moving) for fixed, moving in sampled)


def test_the_share_of_pairs_within_groups_is_the_one_asked_for() -> None:
    pairs = pairs_of(GroupedConfig(intra_group_prob=0.25), count=2000)
    within = np.mean([group(fixed) == group(moving) for fixed, moving in pairs])
    assert len(pairs) == 2000
    assert 0.18 < within < 0.27  # a group of one image gives none


def test_every_epoch_has_as_many_pairs() -> None:
    """Else a training that goes by their number waits for a batch that does not come."""
    some = GroupedConfig(intra_group_prob=0.5)
    assert {len(pairs_of(some, epoch)) for epoch in range(20)} == {len(GROUPS.groups())}
    alone = Index(tuple(case for case in GROUPS.cases if case.group == "g0"))
    data = DataConfig(pairing="grouped", grouped=some)
    found = [epoch_pairs(alone, data, "train", seed=2, epoch=epoch) for epoch in range(20)]
    assert {len(pairs) for pairs in found} == {1}


def test_an_unpaired_epoch_sees_each_image_once() -> None:
    config = DataConfig(pairing="unpaired")
    pairs = epoch_pairs(GROUPS, config, "train", seed=0, epoch=3)
    assert len(pairs) == len(GROUPS.cases) // 2
    assert len({number for pair in pairs for number in pair}) == 2 * len(pairs)


def test_evaluation_pairs_never_change_and_can_be_more_than_half() -> None:
    config = DataConfig(pairing="unpaired", evaluation_pairs=40)
    first, later = (epoch_pairs(GROUPS, config, "test", seed=0, epoch=n) for n in (0, 7))
    assert first == later
    assert len(set(first)) == 40
    assert all(fixed != moving for fixed, moving in first)


def test_a_column_says_the_split(unpaired_folder: Path, tmp_path: Path) -> None:
    lines = ["image,labels,group,split"]
    for n in range(7):
        split = ("train", "valid", "test")[min(n // 3, 2)]
        lines.append(f"images/case{n}.nii.gz,labels/case{n}.nii.gz,s{n},{split}")
    (unpaired_folder / "list.csv").write_text("\n".join(lines))
    config = DataConfig(
        root=str(unpaired_folder), pairing="unpaired", format="list", labels="required",
        splits=ColumnSplits(source=("list.csv",)),
    )  # fmt: skip
    sizes = [len(read_split(config, split, Problems()).cases) for split in SPLITS]
    assert sizes == [3, 3, 1]


def test_a_subject_in_two_splits_is_told(unpaired_folder: Path) -> None:
    lines = ["image,group,split", "images/case0.nii.gz,s,train", "images/case1.nii.gz,s,test"]
    (unpaired_folder / "list.csv").write_text("\n".join(lines))
    config = DataConfig(
        root=str(unpaired_folder), pairing="unpaired", format="list",
        splits=ColumnSplits(source=("list.csv",)),
    )  # fmt: skip
    problems = Problems()
    read_split(config, "train", problems)
    told = {"field": "s", "detail": "The group is in test and train.", "place": "group 1 of 1"}
    assert problems.found == [told]


@pytest.mark.parametrize("atlas", ["fixed", "moving"])
def test_an_atlas_in_every_pair_parts_no_subjects(unpaired_folder: Path, atlas: str) -> None:
    other = "moving" if atlas == "fixed" else "fixed"
    rows = [
        Row.model_validate({atlas: "images/case0.nii.gz", other: f"images/case{n}.nii.gz"})
        for n in range(1, 7)
    ]
    config = DataConfig(
        root=str(unpaired_folder), format="list", rows=tuple(rows),
        splits=FractionSplits(valid=0.2, test=0.4),
    )  # fmt: skip
    sizes = [len(read_split(config, split, Problems()).pairs) for split in SPLITS]
    assert sizes == [3, 1, 2]


def test_grouped_folders_are_one_folder_for_each_subject(
    tmp_path: Path, write_case: Callable[..., Volume]
) -> None:
    root = tmp_path / "root"
    for subject in ("s1", "s2", "s3"):
        for visit in range(2):
            write_case(
                root / f"images/{subject}/v{visit}.nii.gz",
                root / f"labels/{subject}/v{visit}.nii.gz",
            )
    config = DataConfig(
        root=str(root), pairing="grouped", labels="required",
        splits=FractionSplits(valid=0, test=0.34),
        grouped=GroupedConfig(intra_group_option="forward"),
    )  # fmt: skip
    dataset = opened(config, tmp_path)
    assert len(dataset) == 2
    for ref in dataset.pairs(0):
        assert ref.name.endswith("v0.nii.gz")
        assert "v1.nii.gz<-" in ref.name
    shutil.rmtree(root / "images/s1")
    with pytest.raises(TrainingDataError):
        opened(config.model_copy(update={"labels": "required", "root": str(root / "no")}), tmp_path)
