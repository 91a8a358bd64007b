"""What other readers make of series that they and we read differently: the table in docs/dicom.md.

Each of its rows is a test here, of the readers that are installed; where a new version of one does
something else, its row is wrong, and the test says so.
"""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom
import nibabel
import numpy as np
import pytest
import SimpleITK
from numpy.testing import assert_allclose, assert_array_equal
from pydicom import dcmread
from pydicom.uid import JPEGLSLossless

from service.errors import MissingSlicesError
from tests.conftest import DIRECTIONS
from tests.dicoms import affine_of, write_series
from tests.parity.test_dicom_synthetic import (
    ORIGIN_MM,
    SPACING_MM,
    TWELVE,
    inverted,
    noise,
    packed,
    read,
    sampled,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
PAGE = Path(__file__).parents[2] / "docs" / "dicom.md"
AFFINE = affine_of(DIRECTIONS["LPS"], SPACING_MM, ORIGIN_MM)
MOST = 65535
TILT_MM = 2.0 * np.tan(np.radians(15))

covered: set[str] = set()


def row(*names: str) -> Callable[[Any], Any]:
    """Say which rows of the table a test is about."""
    covered.update(names)
    return lambda test: test


def by_highdicom(folder: Path) -> highdicom.Volume:
    return highdicom.get_volume_from_series([dcmread(path) for path in folder.rglob("*.dcm")])


def by_dcm2niix(folder: Path, out: Path) -> dict[str, nibabel.Nifti1Image]:
    """Each file that it writes, by what comes after the name."""
    if shutil.which("dcm2niix") is None:
        pytest.skip("dcm2niix is not installed")
    out.mkdir()
    command = ["dcm2niix", "-z", "n", "-b", "n", "-f", "x", "-o", str(out), str(folder)]
    subprocess.run(command, check=False, capture_output=True)
    return {path.stem[1:]: nibabel.load(path) for path in sorted(out.glob("*.nii"))}


def by_simpleitk(folder: Path) -> SimpleITK.Image:
    """Its only series."""
    reader = SimpleITK.ImageSeriesReader()
    (series,) = reader.GetGDCMSeriesIDs(str(folder))
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder), series))
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    return reader.Execute()


def refused_by_highdicom(folder: Path) -> None:
    with pytest.raises(ValueError, match="not a regularly-spaced volume"):
        by_highdicom(folder)


def slices_at(folder: Path, places_mm: list[float]) -> Path:
    sampled(folder, [(0, 0, place) for place in places_mm], "LPS")
    return folder


def without(*left_out: int) -> list[float]:
    return [2.0 * k for k in range(24) if k not in left_out]


@row("MONOCHROME1")
def test_inverted_display(tmp_path):
    data, folder = noise(*TWELVE), tmp_path / "s"
    write_series(folder, data, AFFINE, change=inverted)
    assert_array_equal(read(folder)[0].data, data)
    for theirs in (by_highdicom(folder).array, SimpleITK.GetArrayFromImage(by_simpleitk(folder))):
        assert sorted(theirs.flat) == sorted(MOST - data.ravel().astype(int))
    (image,) = by_dcm2niix(folder, tmp_path / "out").values()
    assert sorted(np.asarray(image.dataobj).flat) == sorted(data.flat)


@row("gantry tilt")
def test_a_tilted_gantry(tmp_path):
    folder = tmp_path / "s"
    sampled(folder, [(0, TILT_MM * k, 2.0 * k) for k in range(12)], "LPS")
    volume, _, warnings = read(folder)
    assert "tilted" in warnings[0]
    assert_allclose(volume.grid.spacing_mm, (1, 1, 2), atol=1e-6)
    refused_by_highdicom(folder)
    theirs = by_simpleitk(folder)
    assert theirs.GetSize() == (24, 22, 12)
    assert theirs.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)  # as if nothing were tilted
    assert_allclose(theirs.GetSpacing()[2], np.hypot(2.0, TILT_MM), atol=1e-3)
    images = by_dcm2niix(folder, tmp_path / "out")
    assert [*images] == ["", "_Tilt_1"]
    assert abs(images[""].affine[1, 2]) > 0.5  # sheared
    assert_allclose(images["_Tilt_1"].affine[:3, 2], (0, 0, 2), atol=1e-3)
    assert images["_Tilt_1"].shape[1] > 22


@row("one slice missing")
def test_a_missing_slice(tmp_path):
    folder = slices_at(tmp_path / "s", without(5))
    volume, _, warnings = read(folder)
    assert volume.data.shape == (24, 22, 24)
    assert "unevenly" in warnings[0]
    refused_by_highdicom(folder)
    theirs = by_simpleitk(folder)
    assert theirs.GetSize()[2] == 23
    assert_allclose(theirs.GetSpacing()[2], 46 / 22, atol=1e-6)  # all slices but two are elsewhere
    images = by_dcm2niix(folder, tmp_path / "out")
    assert [*images] == ["", "_Eq_1"]
    assert {image.shape[2] for image in images.values()} == {23}


@row("several missing in a place")
def test_several_missing_slices(tmp_path):
    folder = slices_at(tmp_path / "s", without(5, 6, 7))
    with pytest.raises(MissingSlicesError) as refusal:
        read(folder)
    assert refusal.value.errors
    refused_by_highdicom(folder)
    assert_allclose(by_simpleitk(folder).GetSpacing()[2], 46 / 20, atol=1e-6)
    images = by_dcm2niix(folder, tmp_path / "out")
    assert {name: image.shape[2] for name, image in images.items()} == {"": 21, "_Eq_1": 23}


@row("JPEG-LS")
def test_jpeg_ls(tmp_path):
    data, folder = noise(*TWELVE), tmp_path / "s"
    write_series(folder, data, AFFINE, change=packed(JPEGLSLossless))
    assert_array_equal(read(folder)[0].data, data)
    for theirs in (by_highdicom(folder).array, SimpleITK.GetArrayFromImage(by_simpleitk(folder))):
        assert sorted(theirs.flat) == sorted(data.flat)
    assert not by_dcm2niix(folder, tmp_path / "out")


@row("spacing of slices that are slightly uneven")
def test_spacing(tmp_path):
    places = [0.0, *(2.0 * k + 0.008 for k in range(1, 24))]
    folder = slices_at(tmp_path / "s", places)
    mean = places[-1] / 23
    assert_allclose(read(folder)[0].grid.spacing_mm[2], mean, atol=1e-6)
    assert_allclose(by_simpleitk(folder).GetSpacing()[2], mean, atol=1e-6)
    assert_allclose(np.abs(by_highdicom(folder).affine[:3, 0]).max(), 2.0, atol=1e-3)
    (image,) = by_dcm2niix(folder, tmp_path / "out").values()
    assert_allclose(image.affine[2, 2], 2.008, atol=1e-6)


@row("several time points", "several echoes")
@pytest.mark.parametrize("by", ["time", "echo"])
def test_several_volumes_in_a_folder(by, tmp_path):
    data, folder = noise(*TWELVE)[:, :, :6], tmp_path / "s"
    for n in range(2):

        def change(one, k, n=n):
            one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = f"1.2.{n + 1}.{k + 1}"
            one.InstanceNumber = 1 + k + 6 * n
            one.AcquisitionNumber = 1 if by == "echo" else n + 1
            if by == "echo":
                one.EchoTime, one.EchoNumbers = 4.6 + n, n + 1
            else:
                one.TemporalPositionIdentifier = n + 1

        paths = write_series(tmp_path / str(n), data + 10 * n, AFFINE, modality="MR", change=change)
        folder.mkdir(exist_ok=True)
        for path in paths:
            path.rename(folder / f"{n}{path.name}")
    assert len(read(folder)[1].stacks) == 2
    refused_by_highdicom(folder)
    theirs = by_simpleitk(folder)
    assert theirs.GetSize()[2] == 12  # one volume, in which each place comes twice
    assert_allclose(theirs.GetSpacing()[2], 5 * SPACING_MM[2] / 11, atol=1e-6)
    images = by_dcm2niix(folder, tmp_path / "out")
    shapes = {name: image.shape[2:] for name, image in images.items()}
    assert shapes == ({"": (6, 2)} if by == "time" else {"_e1": (6,), "_e2": (6,)})


@row("mosaic")
@pytest.mark.real_data
def test_mosaics(shared_data, tmp_path):
    folder = shared_data / "dicom_mr_epi_mosaic_orient" / "axasc35"
    volume, found, _ = read(folder)
    assert (len(found.stacks), volume.data.shape) == (2, (64, 64, 35))
    with pytest.raises(ValueError, match="not a regularly-spaced volume"):
        highdicom.get_volume_from_series([dcmread(path) for path in folder.iterdir()])
    assert by_simpleitk(folder).GetSize() == (384, 384, 2)  # sheets of 36 tiles as slices
    (image,) = by_dcm2niix(folder, tmp_path / "out").values()
    assert image.shape == (64, 64, 35, 2)


@row("direction of axes")
def test_axes(tmp_path):
    data, folder = noise(*TWELVE), tmp_path / "s"
    write_series(folder, data, AFFINE)
    volume = read(folder)[0]
    assert_array_equal(volume.data, data)
    assert_allclose(volume.grid.affine, AFFINE, atol=1e-9)
    theirs = by_highdicom(folder)
    assert_array_equal(theirs.array, data.transpose(2, 1, 0)[::-1])
    image = by_simpleitk(folder)
    assert_array_equal(SimpleITK.GetArrayFromImage(image), data.transpose(2, 1, 0))
    (image,) = by_dcm2niix(folder, tmp_path / "out").values()
    assert_array_equal(np.asarray(image.dataobj), data[:, ::-1])


def test_every_row_of_the_page_is_tested():
    table = PAGE.read_text("utf-8").partition("## Where others differ")[2]
    rows = {name for name in re.findall(r"^\| ([^|]+?) \|", table, re.M) if name != "case"}
    assert rows == covered
