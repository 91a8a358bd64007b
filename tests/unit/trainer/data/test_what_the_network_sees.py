"""Training sees exactly what the service's engine feeds a network."""

import os
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pytest

from service.registration.card import Card, InputTensor, Intensity, OutputTensor, Training
from service.registration.engine import Engine
from service.registration.fields import Affine
from service.registration.files.limits import Limits
from service.registration.files.volume_file import read_label_map, read_volume
from service.registration.initialise import initialise
from service.registration.volume import Volume
from trainer.config.data import DataConfig, GridConfig
from trainer.data.acquired import AcquiredPairs
from trainer.data.dataset import PairRef, open_acquired

MULTIPLE = 8


class RecordingSession:
    """A network that gives zeros and remembers what it was fed."""

    def __init__(self, ndim: int) -> None:
        self.fed: list[dict[str, np.ndarray]] = []
        self._ndim = ndim

    def run(self, _: list[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.fed.append(dict(feed))
        fixed = feed["fixed"]
        channels = 1 if "moving_label" in feed else self._ndim
        return [np.zeros((1, channels, *fixed.shape[2:]), np.float32)]


def engine_of(config: DataConfig, kind: str = "displacement") -> tuple[Engine, RecordingSession]:
    roles = ["fixed", "moving"] + ["moving_label"] * (kind == "warped_label")
    card = Card(
        name="seen",
        version="1",
        summary="For tests.",
        inputs=tuple(InputTensor(name=role, role=role) for role in roles),  # type: ignore[arg-type]
        output=OutputTensor(name="out", kind=kind),  # type: ignore[arg-type]
        grid=config.grid.rule(MULTIPLE),
        intensity=config.intensity,
        moving_intensity=config.moving_intensity,
        providers=("cpu",),
        opset=20,
        sha256="0" * 64,
        modalities=("any",),
        anatomy=("any",),
        training=Training(method="none", configuration={}, data="none"),
        licence="none",
    )
    engine: Any = object.__new__(Engine)
    session = RecordingSession(config.grid.ndim)
    engine.card, engine.provider = card, "cpu"
    engine._lock, engine._session = Lock(), session
    engine._process = os.getpid()
    return engine, session


def dataset_of(config: DataConfig, tmp_path: Path) -> AcquiredPairs:
    return open_acquired(config, "train", multiple=MULTIPLE, cache=tmp_path / "cache", seed=1)


def images_of(dataset: AcquiredPairs, ref: PairRef, root: Path) -> tuple[Volume, Volume]:
    """The pair, read anew."""
    name = Path(dataset.index.cases[ref.fixed].name).name
    folders = (root / f"train/{role}_images" for role in ("fixed", "moving"))
    fixed, moving = (read_volume(folder / name, Limits()) for folder in folders)
    return fixed, moving


@pytest.mark.parametrize("how", ["none", "centre", "moments", "rigid", "affine"])
@pytest.mark.parametrize("spacing_mm", [1.7, 3.0])
def test_training_sees_what_the_engine_feeds(
    paired_folder: Path, tmp_path: Path, how: Any, spacing_mm: float
) -> None:
    config = DataConfig(
        root=str(paired_folder), grid=GridConfig(spacing_mm=spacing_mm), initialise=how
    )
    dataset = dataset_of(config, tmp_path)
    engine, session = engine_of(config)
    ref = dataset.pairs(0)[0]
    fixed, moving = images_of(dataset, ref, paired_folder)
    engine.predict(fixed, moving, initialise(fixed, moving, how))
    for _ in range(2):  # made, then from the cache
        batch = dataset.load(ref, np.random.default_rng(0))
        np.testing.assert_allclose(batch.fixed, session.fed[0]["fixed"], atol=1e-5)
        np.testing.assert_allclose(batch.moving, session.fed[0]["moving"], atol=1e-5)
        dataset = dataset_of(config, tmp_path)
    assert batch.fixed.std() > 0.05
    assert all(n % MULTIPLE == 0 for n in batch.size)


def test_fixed_and_moving_may_have_rules_of_their_own(paired_folder: Path, tmp_path: Path) -> None:
    config = DataConfig(
        root=str(paired_folder),
        intensity=Intensity(rule="window", low=0, high=50),
        moving_intensity=Intensity(rule="percentiles", low=10, high=70),
    )
    dataset = dataset_of(config, tmp_path)
    engine, session = engine_of(config)
    ref = dataset.pairs(0)[0]
    fixed, moving = images_of(dataset, ref, paired_folder)
    engine.predict(fixed, moving, Affine.identity())
    batch = dataset.load(ref, np.random.default_rng(0))
    np.testing.assert_allclose(batch.fixed, session.fed[0]["fixed"], atol=1e-5)
    np.testing.assert_allclose(batch.moving, session.fed[0]["moving"], atol=1e-5)
    assert float(batch.fixed.max()) == 1


def test_a_conditional_network_sees_the_label_that_the_engine_feeds(
    paired_folder: Path, tmp_path: Path
) -> None:
    config = DataConfig(
        root=str(paired_folder), labels="required", sample_label="all", initialise="moments",
        grid=GridConfig(spacing_mm=2.2),
    )  # fmt: skip
    dataset = dataset_of(config, tmp_path)
    engine, session = engine_of(config, "warped_label")
    ref = dataset.pairs(0)[0]
    fixed, moving = images_of(dataset, ref, paired_folder)
    name = Path(dataset.index.cases[ref.fixed].name).name
    labels = read_label_map(paired_folder / "train/moving_labels" / name, Limits())
    engine.segment(fixed, moving, labels, initialise(fixed, moving, "moments"))
    batch = dataset.load(ref, np.random.default_rng(0))
    assert batch.label_values == ((1, 2),)
    assert batch.moving_labels is not None
    for n in range(2):
        share = session.fed[n]["moving_label"][0, 0]
        np.testing.assert_allclose(batch.moving_labels[0, n], share, atol=1e-5)


def test_points_of_a_pair_mark_the_same_place_in_both_images(
    paired_folder: Path, tmp_path: Path
) -> None:
    """The blob's centre is a point in both: the images peak there on the model grid."""
    config = DataConfig(
        root=str(paired_folder), points="required", initialise="affine",
        grid=GridConfig(spacing_mm=1.0),
    )  # fmt: skip
    dataset = dataset_of(config, tmp_path)
    batch = dataset.load(dataset.pairs(0)[0], np.random.default_rng(0))
    assert batch.fixed_points is not None
    assert batch.moving_points is not None
    for image, points in ((batch.fixed, batch.fixed_points), (batch.moving, batch.moving_points)):
        weight = image[0, 0].numpy() ** 6
        index = np.stack(np.meshgrid(*map(np.arange, weight.shape), indexing="ij"), axis=-1)
        peak = (index * weight[..., None]).sum(axis=(0, 1, 2)) / weight.sum()
        np.testing.assert_allclose(points[0, 0], peak, atol=0.5)


def test_a_fixed_shape_is_a_window_of_the_same_grid(paired_folder: Path, tmp_path: Path) -> None:
    whole = DataConfig(root=str(paired_folder), points="required", labels="required")
    cut = whole.model_copy(update={"grid": GridConfig(shape=(16, 40, 16))})
    first, second = dataset_of(whole, tmp_path), dataset_of(cut, tmp_path)
    ref = first.pairs(0)[0]
    one = first.load(ref, np.random.default_rng(0))
    other = second.load(ref, np.random.default_rng(0))
    assert other.size == (16, 40, 16)
    grid = first.placement(ref).grid
    starts = [(n - m) // 2 for n, m in zip(grid.shape, (16, 40, 16), strict=True)]
    assert starts[0] > 0 > starts[1]
    assert one.fixed_points is not None
    assert other.fixed_points is not None
    moved = other.fixed_points.numpy() + np.array(starts)
    np.testing.assert_allclose(moved, one.fixed_points, atol=1e-4)
    inner = other.moving[0, 0, :, -starts[1] : grid.shape[1] - starts[1]]
    np.testing.assert_array_equal(
        inner,
        one.moving[0, 0, starts[0] : starts[0] + 16, : grid.shape[1], starts[2] : starts[2] + 16],
    )
