"""Real images: hippocampi, prostates with 4-D labels, a lung with landmarks, slices."""

from pathlib import Path

import numpy as np
import pytest

from service.registration.files.points_file import write_points
from service.registration.points import WorldPoints
from trainer.config.augment import AffineAugment, AugmentConfig
from trainer.config.data import DataConfig, GridConfig, Row
from trainer.config.splits import FoldSplits, FractionSplits
from trainer.data.batch import Batch
from trainer.data.dataset import check_data, open_acquired
from trainer.data.feeding import batches

pytestmark = pytest.mark.real_data


def overlap(batch: Batch) -> np.ndarray:
    """Dice of each label before registration."""
    fixed, moving = batch.fixed_labels, batch.moving_labels
    assert fixed is not None
    assert moving is not None
    both = (fixed * moving).sum(dim=(2, 3, 4))
    return np.asarray(2 * both / (fixed + moving).sum(dim=(2, 3, 4)).clamp(min=1e-6))


def test_hippocampi_overlap_better_with_their_centres_together(
    shared_data: Path, tmp_path: Path
) -> None:
    config = DataConfig(
        root=str(shared_data / "hippocampus_msd"),
        pairing="unpaired",
        labels="required",
        sample_label="all",
        splits=FoldSplits(folds=4, valid=0.0),
        evaluation_pairs=6,
    )
    check_data(config)
    means = {}
    for how in ("none", "centre"):
        chosen = config.model_copy(update={"initialise": how})
        dataset = open_acquired(chosen, "test", multiple=8, cache=tmp_path / "cache", seed=0)
        assert dataset.label_values == (1, 2)
        found = [overlap(batch) for batch in batches(dataset, 0, 2, None, 0)]
        means[how] = np.concatenate(found).mean()
    assert means["centre"] > max(0.4, means["none"])


def test_prostates_have_corresponding_labels_of_different_number(
    shared_data: Path, tmp_path: Path
) -> None:
    rows = tuple(
        Row(
            fixed=f"case00000{n}/us_image.nii.gz",
            moving=f"case00000{n}/mr_image.nii.gz",
            fixed_labels=f"case00000{n}/us_labels.nii.gz",
            moving_labels=f"case00000{n}/mr_labels.nii.gz",
        )
        for n in range(6)
    )
    config = DataConfig(
        root=str(shared_data / "prostate_mr_trus"),
        format="list",
        rows=rows,
        labels="required",
        grid=GridConfig(spacing_mm=0.8),
        initialise="centre",
        splits=FractionSplits(valid=0.2, test=0.2),
    )
    check_data(config)
    dataset = open_acquired(config, "test", multiple=8, cache=tmp_path / "cache", seed=0)
    (batch,) = batches(dataset, 0, 4, AugmentConfig(affine=AffineAugment()), 0)
    assert batch.label_present is not None
    assert batch.label_present[:, 0].all()
    assert overlap(batch)[0, 0] > 0.3


def test_landmarks_of_a_lung_come_closer_with_an_affine(shared_data: Path, tmp_path: Path) -> None:
    """Measured elsewhere: 35.3 mm by the headers; an affine of elastix leaves 5.9 mm."""
    source = shared_data / "lung_ct_elastix"
    root = tmp_path / "lung"
    root.mkdir()
    table = np.loadtxt(source / "pairs_corrected_dev26.csv", delimiter=",", skiprows=1)
    for role, columns in (("fixed", table[:, :3]), ("moving", table[:, 3:])):
        write_points(root / f"{role}.csv", WorldPoints(columns * (-1, -1, 1)))
    for name in ("3DCT_lung_baseline_small.mha", "followup_reconstructed.nii.gz"):
        (root / name).write_bytes((source / name).read_bytes())
    row = Row(
        fixed="3DCT_lung_baseline_small.mha",
        moving="followup_reconstructed.nii.gz",
        fixed_points="fixed.csv",
        moving_points="moving.csv",
    )
    for how, most_mm in (("none", 40.0), ("affine", 9.0)):
        config = DataConfig(
            root=str(root),
            format="list",
            rows=(row,),
            points="required",
            grid=GridConfig(spacing_mm=5.0),
            initialise=how,
        )
        dataset = open_acquired(config, "train", multiple=8, cache=tmp_path / "cache", seed=0)
        (batch,) = batches(dataset, 0, 1, None, 0)
        assert batch.fixed_points is not None
        assert batch.moving_points is not None
        far_mm = 5.0 * (batch.fixed_points - batch.moving_points).norm(dim=-1).mean()
        assert far_mm < most_mm
        assert (far_mm > 30) == (how == "none")


def test_slices_of_two_brains(shared_data: Path, tmp_path: Path) -> None:
    config = DataConfig(
        root=str(shared_data / "slices_2d"),
        format="list",
        pairing="unpaired",
        rows=(Row(image="r16slice.nii.gz"), Row(image="r64slice.nii.gz")),
        grid=GridConfig(ndim=2, spacing_mm=2.0),
    )
    dataset = open_acquired(config, "train", multiple=16, cache=tmp_path / "cache", seed=0)
    (batch,) = batches(dataset, 0, 1, AugmentConfig(affine=AffineAugment()), 0)
    assert batch.size == (128, 128)
    assert 0.1 < float(batch.fixed.mean()) < 0.7
