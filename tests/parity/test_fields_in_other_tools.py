"""Our field file moves points in ITK and in ANTs as our field does."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from numpy.testing import assert_allclose, assert_array_equal

from service.registration.fields import DisplacementField
from service.registration.files.field_file import read_field, write_field
from service.registration.files.limits import Limits
from service.registration.grid import Grid

MakeGrid = Callable[..., Grid]
LPS = np.array([-1.0, -1.0, 1.0])


def smooth_field(grid: Grid, rng: np.random.Generator) -> DisplacementField:
    """Waves of a few millimetres, another one along each axis."""
    index = np.moveaxis(np.indices(grid.shape, dtype=np.float64), 0, -1)
    waves = np.sin(index @ rng.uniform(-0.3, 0.3, (3, 3)) + rng.uniform(0, 6, 3))
    return DisplacementField((waves * (3.0, -4.0, 5.0)).astype(np.float32), grid)


def points_in(grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """World positions within the grid, a little away from its edge."""
    return grid.to_world(rng.uniform(0.1, np.array(grid.shape) - 1.1, (500, 3)))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_itk_moves_points_as_we_do(
    suffix: str, orientation: str, make_grid: MakeGrid, rng: np.random.Generator, tmp_path: Path
) -> None:
    field = smooth_field(make_grid(orientation), rng)
    path = tmp_path / f"ddf{suffix}"
    write_field(path, field)
    theirs = sitk.DisplacementFieldTransform(sitk.ReadImage(str(path), sitk.sitkVectorFloat64))
    points = points_in(field.grid, rng)
    moved = np.array([theirs.TransformPoint(point) for point in points * LPS]) * LPS
    assert_allclose(field.move(points), moved, atol=1e-4)


def test_ants_moves_points_as_we_do(
    orientation: str, make_grid: MakeGrid, rng: np.random.Generator, tmp_path: Path
) -> None:
    ants = pytest.importorskip("ants")
    pandas = pytest.importorskip("pandas")
    field = smooth_field(make_grid(orientation), rng)
    write_field(tmp_path / "ddf.nii.gz", field)
    points = points_in(field.grid, rng)
    table = pandas.DataFrame(points * LPS, columns=["x", "y", "z"])
    theirs = ants.apply_transforms_to_points(3, table, [str(tmp_path / "ddf.nii.gz")])
    assert_allclose(field.move(points), theirs[["x", "y", "z"]].to_numpy() * LPS, atol=1e-4)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_field_comes_back_as_it_was(
    suffix: str, orientation: str, make_grid: MakeGrid, rng: np.random.Generator, tmp_path: Path
) -> None:
    field = smooth_field(make_grid(orientation), rng)
    write_field(tmp_path / f"ddf{suffix}", field)
    back = read_field(tmp_path / f"ddf{suffix}", Limits())
    assert_array_equal(back.vectors_mm, field.vectors_mm)
    assert back.grid.is_same(field.grid)
