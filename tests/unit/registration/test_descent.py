"""A level of the descent: how much it smooths, by what it looks at."""

from collections.abc import Callable

import numpy as np
import pytest

from service.registration.descent import (
    FIELD_SIGMA_VOXELS,
    OWN_FIELD_SIGMA_VOXELS,
    LatticeField,
    Level,
    LevelPair,
    field_sigma_voxels,
)
from service.registration.fields import Affine
from service.registration.grid import Grid
from service.registration.levels import fixed_levels, moving_levels
from service.registration.volume import Volume

MakeGrid = Callable[..., Grid]


def pair_of(fixed: Volume, moving: Volume) -> LevelPair:
    return LevelPair(fixed, moving, Affine.identity())


def flat(grid: Grid) -> Volume:
    return Volume(np.zeros(grid.shape, np.float32), grid)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (1.2, 1.3, 0.9), (2.7, 2.7, 5.0)])
def test_a_small_level_of_the_images_own_voxels_is_smoothed_more(
    make_grid: MakeGrid, spacing_mm: tuple[float, float, float]
) -> None:
    image = flat(make_grid("oblique", shape=(40, 44, 36), spacing_mm=spacing_mm))
    spacings = (2 * min(spacing_mm), min(spacing_mm))
    levels = zip(fixed_levels(image, spacings), moving_levels(image, spacings), strict=True)
    found = [field_sigma_voxels(pair_of(fixed, moving)) for fixed, moving in levels]
    assert found == [FIELD_SIGMA_VOXELS, OWN_FIELD_SIGMA_VOXELS]


def test_a_level_onto_which_finer_voxels_were_averaged_is_not(make_grid: MakeGrid) -> None:
    fixed = flat(make_grid("RAS", shape=(30, 30, 30), spacing_mm=(2.0, 2.0, 2.0)))
    finer = flat(make_grid("RAS", shape=(60, 60, 60), spacing_mm=(1.0, 1.0, 1.0)))
    (moving,) = moving_levels(finer, (2.0,))
    assert field_sigma_voxels(pair_of(fixed, moving)) == FIELD_SIGMA_VOXELS


def test_nor_is_a_large_one(make_grid: MakeGrid) -> None:
    image = flat(make_grid("RAS", shape=(101, 100, 100), spacing_mm=(1.0, 1.0, 1.0)))
    assert field_sigma_voxels(pair_of(image, image)) == FIELD_SIGMA_VOXELS


def test_what_is_smoothed_more_follows_noise_less(
    make_grid: MakeGrid, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = make_grid("RAS", shape=(24, 26, 22), spacing_mm=(1.0, 1.0, 1.0))
    shape = np.sin(np.indices(grid.shape) / 4).sum(axis=0)
    images = [
        Volume((shape + rng.normal(0, 0.5, grid.shape)).astype(np.float32), grid) for _ in range(2)
    ]
    nothing = LatticeField(np.zeros((3, *grid.shape), np.float32), grid)

    def roughness() -> float:
        level = Level(pair_of(*images), nothing)
        for _ in range(10):
            level.step(0.6)
        return float(np.diff(level.field.along_mm, axis=1).std())

    smooth = roughness()
    monkeypatch.setattr("service.registration.descent.OWN_FIELD_SIGMA_VOXELS", FIELD_SIGMA_VOXELS)
    assert smooth < 0.8 * roughness()
