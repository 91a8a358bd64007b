"""Rendered pairs take the place of acquired ones; their label maps lie on the model grid."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from service.errors import TrainingDataError  # noqa: E402
from service.registration.files.limits import Limits  # noqa: E402
from service.registration.files.volume_file import read_label_map  # noqa: E402
from trainer.config.augment import AugmentConfig, FlipAugment  # noqa: E402
from trainer.config.data import DataConfig, GridConfig  # noqa: E402
from trainer.config.losses import LossesConfig  # noqa: E402
from trainer.config.networks import OutputConfig, VoxelMorphConfig  # noqa: E402
from trainer.config.splits import FractionSplits  # noqa: E402
from trainer.config.synth import ShapesConfig, SynthConfig  # noqa: E402
from trainer.data.batch import collate  # noqa: E402
from trainer.data.dataset import check_data, open_acquired, open_dataset  # noqa: E402
from trainer.data.feeding import batches  # noqa: E402
from trainer.data.rendered import label_maps  # noqa: E402
from trainer.forward import Forward  # noqa: E402
from trainer.losses.build import build_losses  # noqa: E402
from trainer.objective import Objective, swapped  # noqa: E402
from trainer.spatial import warp  # noqa: E402

SHAPE = (16, 24, 16)
SHAPES = DataConfig(
    format="none", synthetic="shapes", grid=GridConfig(shape=SHAPE), pairs_per_epoch=3
)
RECIPE = SynthConfig(shapes=ShapesConfig(labels=4, node_mm=(6, 9)))
GENTLE = SynthConfig.model_validate(
    RECIPE.model_dump()
    | {"affine": {"translation_mm": 2}, "field": {"strength_mm": 1, "node_mm": (12, 16)}}
)


def opened(config: DataConfig, split: str, cache: Path):
    return open_dataset(config, split, multiple=8, cache=cache, seed=1, synth=RECIPE)  # type: ignore[arg-type]


def test_no_rendered_pair_comes_twice_and_an_epoch_can_be_entered(tmp_path: Path) -> None:
    dataset = opened(SHAPES, "train", tmp_path)
    epochs = [list(batches(dataset, epoch, 2, None, 0)) for epoch in range(2)]
    images = [image for epoch in epochs for batch in epoch for image in batch.fixed]
    assert len({float(image.sum()) for image in images}) == len(images) == 6
    (last,) = batches(dataset, 1, 2, None, 0, start=1)
    assert torch.equal(last.fixed, epochs[1][1].fixed)
    assert last.size == SHAPE


def test_training_samples_a_label_that_is_there_and_validation_has_all(tmp_path: Path) -> None:
    dataset = opened(SHAPES, "train", tmp_path)
    for batch in batches(dataset, 0, 1, None, 0):
        assert batch.fixed_labels is not None
        assert batch.fixed_labels.shape[1] == 1
        assert batch.label_present is not None
        assert batch.label_present.all()
    valid = opened(SHAPES, "valid", tmp_path)
    first, later = (next(batches(valid, epoch, 1, None, 0)) for epoch in (0, 4))
    assert first.label_values == ((1, 2, 3, 4),)
    assert torch.equal(first.fixed, later.fixed)
    assert len(valid) == 100
    assert first.fixed_labels is not None
    assert set(first.fixed_labels.sum(dim=1).unique().tolist()) <= {0.0, 1.0}


def from_labels(root: Path) -> DataConfig:
    return DataConfig(
        root=str(root),
        pairing="unpaired",
        labels="required",
        splits=FractionSplits(valid=0.3, test=0),
        grid=GridConfig(spacing_mm=2.0, shape=SHAPE),
    )


def test_label_maps_lie_on_the_model_grid(unpaired_folder: Path, tmp_path: Path) -> None:
    """The voxels are cubes of 2 mm: the volume of all labels is what it is in the files."""
    dataset = open_acquired(
        from_labels(unpaired_folder), "train", multiple=8, cache=tmp_path / "cache", seed=0
    )
    maps = label_maps(dataset)
    assert len(maps) == 5
    for case, found in zip(dataset.index.cases, maps, strict=True):
        assert found.shape == SHAPE
        assert case.labels is not None
        stored = read_label_map(case.labels.path, Limits())
        expected_mm3 = (stored.data > 0).sum() * stored.grid.voxel_volume_mm3
        assert 0.85 < (found > 0).sum() * 8 / expected_mm3 < 1.15
        assert set(np.unique(found)) == {0, 1, 2}


def test_labels_are_rendered_for_training_and_acquired_for_validation(
    unpaired_folder: Path, tmp_path: Path
) -> None:
    changes = {"synthetic": "labels", "pairs_per_epoch": 2, "label_values": (2,)}
    config = DataConfig.model_validate(from_labels(unpaired_folder).model_dump() | changes)
    check_data(config)
    train, valid = (opened(config, split, tmp_path / "cache") for split in ("train", "valid"))
    (batch,) = batches(train, 0, 2, None, 0)
    assert batch.names == ("synthetic 0", "synthetic 1")
    assert batch.label_values == ((2,), (2,))
    assert next(batches(valid, 0, 1, None, 0)).names[0].startswith("images/")


def test_without_label_maps_there_is_nothing_to_render_from(
    paired_folder: Path, tmp_path: Path
) -> None:
    config = DataConfig(root=str(paired_folder), labels="none")
    dataset = open_acquired(config, "train", multiple=8, cache=tmp_path / "cache", seed=0)
    with pytest.raises(TrainingDataError):
        label_maps(dataset)


@pytest.mark.parametrize("flips", [None, FlipAugment(probability=0.7, axes=(0, 1, 2))])
def test_the_true_displacement_comes_along_and_mirrors_with_its_pair(
    flips: FlipAugment | None, tmp_path: Path
) -> None:
    config = SHAPES.model_copy(update={"sample_label": "all"})
    dataset = open_dataset(config, "train", multiple=8, cache=tmp_path, seed=1, synth=GENTLE)
    for batch in batches(dataset, 0, 2, AugmentConfig(flips=flips), 0):
        assert batch.displacement is not None
        assert batch.fixed_labels is not None
        assert batch.moving_labels is not None
        whole = batch.fixed_labels.sum()
        right, wrong = (
            torch.minimum(warp(batch.moving_labels, u), batch.fixed_labels).sum() / whole
            for u in (batch.displacement, -batch.displacement)
        )
        assert right > 0.7
        assert right > wrong + 0.15


def test_the_distance_from_the_truth_is_a_loss_that_the_truth_makes_nothing(
    tmp_path: Path,
) -> None:
    dataset = opened(SHAPES.model_copy(update={"sample_label": "all"}), "train", tmp_path)
    batch = next(batches(dataset, 0, 1, None, 0))
    config = LossesConfig.model_validate({"field": [{"kind": "known-displacement"}]})
    network = VoxelMorphConfig(output=OutputConfig(kind="displacement", stride=1))

    class Known(torch.nn.Module):
        def forward(self, *_images: "torch.Tensor") -> "torch.Tensor":
            assert batch.displacement is not None
            return batch.displacement + offset

    objective = Objective(Forward(Known(), network), build_losses(config, batch.spacing_mm))
    offset = torch.zeros(1, 3, 1, 1, 1)
    assert objective(batch)[0] == 0
    offset[:, 1] = 3
    assert float(objective(batch)[0]) == pytest.approx(3 * dataset.spacing_mm[1], rel=1e-5)
    assert float(objective(swapped(batch))[0]) == 0  # of the way back nothing is known


def test_a_pair_without_the_truth_has_none_in_its_batch(tmp_path: Path) -> None:
    dataset = opened(SHAPES, "train", tmp_path)
    one, other = batches(dataset, 0, 1, None, 0), batches(dataset, 1, 1, None, 0)
    joined = collate([next(one), replace(next(other), displacement=None)])
    assert joined.displacement is not None
    assert torch.isfinite(joined.displacement[0]).all()
    assert torch.isnan(joined.displacement[1]).all()
