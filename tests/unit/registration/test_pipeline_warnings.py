"""What a registration says of what was sent, besides its figures; and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from service.errors import InvalidPairError
from service.registration.fields import Affine
from service.registration.files.affine_text import write_affine
from service.registration.files.points_file import read_points, write_points
from service.registration.files.volume_file import write_volume
from service.registration.grid import Grid
from service.registration.models_folder import ModelFolder
from service.registration.options import RegisterOptions, WarpOptions
from service.registration.pipeline import register_files
from service.registration.points import WorldPoints
from service.registration.volume import Volume
from service.registration.warping import warp_files

GRID = Grid((24, 26, 22), np.diag([-2.0, 2.0, 2.5, 1.0]))
AS_THEY_LIE = RegisterOptions(initialise="none", refine="none")


@pytest.fixture
def files(tmp_path: Path, rng: np.random.Generator) -> dict[str, Path]:
    """An image, and itself with another contrast."""
    image = gaussian_filter(rng.standard_normal(GRID.shape), 2).astype(np.float32)
    for role, data in (("fixed", image), ("moving", -image)):
        write_volume(tmp_path / f"{role}.nii", Volume(data, GRID))
    return {role: tmp_path / f"{role}.nii" for role in ("fixed", "moving")}


def test_a_transform_that_mirrors_is_told_of(files: dict[str, Path], tmp_path: Path) -> None:
    mirror = np.diag([-1.0, 1.0, 1.0, 1.0])
    mirror[0, 3] = 2 * GRID.centre_mm[0]
    files["initial_transform"] = tmp_path / "mirror.txt"
    write_affine(files["initial_transform"], Affine(mirror))
    verdict = register_files(files, AS_THEY_LIE, tmp_path / "out", ModelFolder()).verdict
    assert "mirrors" in verdict.codes
    assert verdict.status == "fail"


def test_points_outside_the_image_are_told_of_and_stay(
    files: dict[str, Path], tmp_path: Path
) -> None:
    points = GRID.to_world(np.array([[-0.6, 3, 3], [5, 5, 5]]))
    files["fixed_points"] = tmp_path / "points.csv"
    write_points(files["fixed_points"], WorldPoints(points))
    out = tmp_path / "out"
    told = register_files(files, AS_THEY_LIE, out, ModelFolder()).warnings
    assert [warning for warning in told if warning.startswith("fixed_points: 1 of 2 points")]
    moved = read_points(out / "points.csv").positions_mm
    np.testing.assert_allclose(moved[0], points[0], atol=1e-5)
    again = {"ddf": out / "ddf.nii.gz", "fixed_points": files["fixed_points"]}
    told = warp_files(again, WarpOptions(), tmp_path / "again").warnings
    assert [warning for warning in told if warning.startswith("1 of 2 points")]


@pytest.mark.parametrize("role", ["fixed_mask", "moving_mask"])
def test_a_mask_that_marks_nothing_is_refused(
    role: str, files: dict[str, Path], tmp_path: Path
) -> None:
    files[role] = tmp_path / "mask.nii"
    write_volume(files[role], Volume(np.zeros(GRID.shape, np.uint8), GRID))
    with pytest.raises(InvalidPairError, match="marks no voxel") as caught:
        register_files(files, AS_THEY_LIE, tmp_path / "out", ModelFolder())
    assert caught.value.field == role
