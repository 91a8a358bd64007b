"""`warpline register` takes DICOM as it takes NIfTI: folders, zips, files of many frames."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.testing import assert_allclose
from pydicom import Dataset
from scipy.ndimage import gaussian_filter
from typer.testing import CliRunner

from service.cli.main import app
from tests.dicom_malformed_series import gathered
from tests.dicoms import affine_of, write_series

AFFINE = affine_of(np.diag([-1.0, -1.0, 1.0]), (2, 2, 3), (28, 28, 10))
BODY = gaussian_filter(np.random.default_rng(5).normal(size=(28, 28, 20)), 3) * 9000
DATA = {"fixed": BODY.astype(np.int16), "moving": np.roll(BODY, 2, axis=0).astype(np.int16)}


def nothing(_one: Dataset) -> None:
    """Leave it as it is."""


def folder(path: Path) -> Path:
    return path


def zipped(path: Path) -> Path:
    made = path.with_suffix(".zip")
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in path.iterdir():
            archive.write(file, file.name)
    return made


def one_file(path: Path) -> Path:
    gathered(path, nothing)
    return path / "one.dcm"


@pytest.mark.parametrize(
    ("modality", "forms"),
    [
        ("CT", (folder, zipped)),
        ("MR", (zipped, folder)),
        ("CT", (one_file, folder)),
        ("MR", (one_file, one_file)),
    ],
)
def test_a_pair_in_any_form(
    modality: str, forms: tuple[Callable[[Path], Path], Callable[[Path], Path]], tmp_path: Path
) -> None:
    files = []
    for form, (role, data) in zip(forms, DATA.items(), strict=True):
        write_series(tmp_path / role, data, AFFINE, modality=modality, series=f"1.2.{len(files)}")
        files.append(str(form(tmp_path / role)))
    out = tmp_path / "out"
    told = ["--initialise", "none", "--refine", "none"]
    done = CliRunner().invoke(app, ["register", *files, "--out", str(out), *told])
    assert done.exit_code == 0, done.output
    warped = nibabel.load(out / "warped.nii.gz")
    assert warped.shape == DATA["fixed"].shape
    assert_allclose(warped.affine, AFFINE, atol=1e-5)
    assert {"ddf.reg.dcm", "warped_dicom.zip"} <= {path.name for path in out.iterdir()}
