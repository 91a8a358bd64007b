"""Nearest voxels: whole numbers keep their type and their digits, unless the fill needs another."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from service.registration.fields import DisplacementField
from service.registration.grid import Grid
from service.registration.resample import resample, warp
from service.registration.volume import Volume


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "int16", "uint16", "int32", "bool", "float64", ">i2"]
)
def test_nearest_keeps_the_type_of_integers(make_grid, rng, dtype):
    grid = make_grid()
    volume = Volume(rng.integers(0, 2, grid.shape).astype(dtype), grid)
    warped = warp(volume, DisplacementField.zero(grid), interpolation="nearest", fill=1).data
    assert warped.dtype == (np.float32 if dtype == "float64" else np.dtype(dtype))
    assert_array_equal(warped, volume.data)


@pytest.mark.parametrize(
    ("dtype", "fill", "expected"),
    [
        ("uint16", 65535, "uint16"),
        ("uint16", -1000, "float32"),
        ("uint8", 300, "float32"),
        ("int16", 0.5, "float32"),
        ("int32", 1e38, "float32"),
        ("bool", 2, "float32"),
    ],
)
def test_nearest_gives_the_fill_that_was_asked_for_in_a_type_that_holds_it(dtype, fill, expected):
    volume = Volume(np.ones((3, 3, 3), dtype), Grid((3, 3, 3), np.eye(4)))
    wide = Grid((4, 3, 3), np.eye(4))
    found = resample(volume, wide, interpolation="nearest", fill=fill).data
    assert found.dtype == np.dtype(expected)
    assert_allclose(found[3], fill, rtol=1e-6)
    assert_array_equal(found[:3], 1)


def test_nearest_keeps_every_digit_of_large_whole_numbers(make_grid):
    grid = make_grid()
    volume = Volume(np.full(grid.shape, 2**60 + 1, np.int64), grid)
    assert_array_equal(resample(volume, grid, interpolation="nearest").data, volume.data)
