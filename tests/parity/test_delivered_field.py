"""The field that we deliver, applied by other tools, gives the image that we deliver."""

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from service.registration.files.volume_file import write_volume
from service.registration.grid import Grid
from service.registration.models_folder import ModelFolder
from service.registration.options import RegisterOptions
from service.registration.pipeline import register_files
from tests.phantoms import phantom_pair

# Of the intensity range, over all voxels, border included.
TOLERANCE = 1e-3


@pytest.fixture
def registered(orientation: str, make_grid: Callable[..., Grid], tmp_path: Path) -> Path:
    """A result folder beside its inputs; fixed and moving lie on grids of their own."""
    fixed = make_grid(orientation, (40, 34, 30), (1.5, 1.8, 2.5))
    moving = make_grid(
        "RAS" if orientation == "oblique" else "oblique", (42, 40, 40), (2.0, 2.0, 2.0)
    )
    centred = moving.affine.copy()
    centred[:3, 3] += fixed.centre_mm - moving.centre_mm
    pair = phantom_pair(fixed, Grid(moving.shape, centred), most_mm=5.0)
    write_volume(tmp_path / "fixed.nii.gz", pair.fixed)
    write_volume(tmp_path / "moving.nii.gz", pair.moving)
    files = {name: tmp_path / f"{name}.nii.gz" for name in ("fixed", "moving")}
    options = RegisterOptions(initialise="rigid", refine="fast")
    register_files(files, options, tmp_path / "out", ModelFolder(provider="cpu"))
    return tmp_path


def _largest_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max() / np.ptp(ours))


def test_simpleitk_pulls_the_same_image_through_our_field(registered: Path) -> None:
    fixed, moving, ddf = (
        sitk.ReadImage(str(registered / name), kind)
        for name, kind in (
            ("fixed.nii.gz", sitk.sitkFloat32),
            ("moving.nii.gz", sitk.sitkFloat32),
            ("out/ddf.nii.gz", sitk.sitkVectorFloat64),
        )
    )
    transform = sitk.DisplacementFieldTransform(ddf)
    theirs = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, transform, sitk.sitkLinear, 0.0))
    ours = sitk.GetArrayFromImage(sitk.ReadImage(str(registered / "out/warped.nii.gz")))
    assert _largest_difference(ours, theirs) <= TOLERANCE


def test_ants_pulls_the_same_image_through_our_field(registered: Path) -> None:
    ants = pytest.importorskip("ants")
    fixed, moving = (ants.image_read(str(registered / f"{n}.nii.gz")) for n in ("fixed", "moving"))
    theirs = ants.apply_transforms(fixed, moving, [str(registered / "out/ddf.nii.gz")]).numpy()
    ours = np.asarray(nibabel.load(registered / "out/warped.nii.gz").dataobj)
    assert _largest_difference(ours, theirs) <= TOLERANCE
