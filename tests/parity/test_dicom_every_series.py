"""The real series that have no reference beside them, against what readers make of them here.

Those with one are in test_dicom_reading.py; a last test sees to it that none is left out.
"""

import zipfile
from pathlib import Path

import highdicom
import numpy as np
import pytest
from numpy.testing import assert_allclose
from pydicom import Dataset, dcmread
from scipy.ndimage import map_coordinates

from service.errors import MissingSlicesError
from service.registration.files.dicom.gate import has_magic
from service.registration.files.dicom.reading import Found, find_volumes, read_stack
from service.registration.files.limits import Limits
from service.registration.volume import Volume
from tests.dicoms import LPS
from tests.parity.test_dicom_others import by_dcm2niix
from tests.parity.test_dicom_reading import CASES, SERIES_OF_VOLUMES, XA30, assert_same
from tests.parity.test_dicom_synthetic import at_same_places

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]
DCMQI = "dicom_seg_sr/dcmqi"
PLAIN = [
    "dicom_mr_decubitus/t1_fl2d_sag_HFDL.zip",
    "dicom_mr_decubitus/t1_fl2d_sag_HFS.zip",
    "dicom_thorax_ct_popi00/popi_phase00_20slices.zip",
    "dicom_lung_ct_rtstruct_ibsi/ibsi_ct_image.zip",
    f"{DCMQI}/23x38x3/image",
    f"{DCMQI}/23x38x3/multiframe",
    f"{DCMQI}/24x38x3/image",
    f"{DCMQI}/24x38x3/multiframe",
    f"{DCMQI}/ct-3slice",
]
TILTED = [
    "dicom_ct_head_tilt_ge/ct_head_ge_tilt.zip",
    "dicom_2nifti_suite/failing/gantrytilting/001",
]
MOSAICS = ["dicom_mr_epi_mosaic_orient/nih_epi_ap", "dicom_mr_epi_mosaic_orient/nih_epi_pa"]
UNEVEN = ["dicom_2nifti_suite/failing/sliceincrement/001"]
# Objects without an image of a patient, and single files of other syntaxes.
NO_SERIES = {"dicom_lung_ct_rtstruct_ibsi/rtstruct", "dicom_seg_sr/pydicom", DCMQI}
NO_SERIES |= {f"{DCMQI}/{size}/seg" for size in ("23x38x3", "24x38x3")}


def unpacked(path: Path, scratch: Path) -> Path:
    """The folder of a series."""
    if path.suffix != ".zip":
        return path
    with zipfile.ZipFile(path) as archive:
        archive.extractall(scratch / "in")
    return scratch / "in"


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def only(folder: Path) -> tuple[Volume, list[str]]:
    found, warnings = find_volumes(files_of(folder)), []
    (stack,) = found.stacks
    return read_stack(found, stack, Limits(), warnings), warnings


def by_highdicom(folder: Path) -> highdicom.Volume:
    images = [path for path in files_of(folder) if has_magic(path.read_bytes()[:132])]
    if len(images) == 1:
        return highdicom.imread(images[0]).get_volume()
    return highdicom.get_volume_from_series([dcmread(path) for path in images])


@pytest.mark.parametrize("series", PLAIN)
def test_highdicom_agrees(series, shared_data, tmp_path):
    folder = unpacked(shared_data / series, tmp_path)
    volume, _ = only(folder)
    theirs = by_highdicom(folder)
    seen = at_same_places(volume.data, LPS @ volume.grid.affine, theirs.array, theirs.affine)
    assert_allclose(volume.data, seen, rtol=1e-6)


@pytest.mark.parametrize("series", PLAIN)
def test_dcm2niix_agrees(series, shared_data, tmp_path):
    folder = unpacked(shared_data / series, tmp_path)
    volume, _ = only(folder)
    (image,) = by_dcm2niix(folder, tmp_path / "out").values()
    seen = at_same_places(volume.data, volume.grid.affine, np.asarray(image.dataobj), image.affine)
    assert_allclose(volume.data, seen, rtol=1e-5, atol=1e-2)


def by_its_own_header(image: Dataset, world: np.ndarray) -> np.ndarray:
    """A slice's values at places in its plane (n, 3), LPS mm, linearly; NaN beyond its edges.

    Source: DICOM PS3.3 C.7.6.2.1.1.
    """
    row, column = np.reshape(image.ImageOrientationPatient, (2, 3)).astype(float)
    away = world - np.array(image.ImagePositionPatient, float)
    at = np.stack([away @ column / image.PixelSpacing[0], away @ row / image.PixelSpacing[1]])
    stored = image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept)
    return map_coordinates(stored, np.round(at, 9), order=1, cval=np.nan)


@pytest.mark.parametrize(("series", "met"), [(TILTED[0], 14), (TILTED[1], 4)])
def test_a_tilted_series_has_each_slice_in_its_place(series, met, shared_data, tmp_path):
    """The head's later slices are 7 mm apart, so only the first 14 lie on planes of its grid."""
    folder = unpacked(shared_data / series, tmp_path)
    volume, warnings = only(folder)
    assert any("tilted" in warning for warning in warnings)
    affine = LPS @ volume.grid.affine
    normal = affine[:3, 2] / np.linalg.norm(affine[:3, 2])
    columns, rows, _ = volume.data.shape
    i, j = np.meshgrid(np.arange(columns), np.arange(rows), indexing="ij")
    planes = 0
    for path in files_of(folder):
        image = dcmread(path)
        height = (np.array(image.ImagePositionPatient, float) - affine[:3, 3]) @ normal
        k = height / np.linalg.norm(affine[:3, 2])
        if abs(k - round(k)) > 2e-3:
            continue
        planes += 1
        places = np.stack([i, j, np.full_like(i, round(k)), np.ones_like(i)], -1).reshape(-1, 4)
        theirs = by_its_own_header(image, (places @ affine.T)[:, :3])
        inside = np.isfinite(theirs)
        assert inside.mean() > 0.8
        ours = volume.data[:, :, round(k)].reshape(-1)
        assert_allclose(ours[inside], theirs[inside], atol=1)  # ours are whole numbers
    assert planes >= met


@pytest.mark.parametrize("series", MOSAICS)
def test_each_mosaic_is_one_of_dcm2niix(series, shared_data, tmp_path):
    found = find_volumes(files_of(shared_data / series))
    (image,) = by_dcm2niix(shared_data / series, tmp_path / "out").values()
    theirs = np.asarray(image.dataobj)
    ours = sorted(volumes_of(found), key=lambda one: float(one.data.sum()))
    assert len(ours) == theirs.shape[3]
    order = sorted(range(len(ours)), key=lambda n: float(theirs[..., n].sum()))
    for one, n in zip(ours, order, strict=True):
        assert_same(one, theirs[..., n], image.affine)


def volumes_of(found: Found) -> list[Volume]:
    return [read_stack(found, stack, Limits(), []) for stack in found.stacks]


@pytest.mark.parametrize("series", UNEVEN)
def test_what_lacks_a_slice_of_four_is_refused(series, shared_data):
    with pytest.raises(MissingSlicesError, match=r"10\.00 mm after slice 3"):
        only(shared_data / series)


def test_no_series_is_left_out(shared_data):
    known = {case[0] for case in CASES} | {case[0] for case in SERIES_OF_VOLUMES} | NO_SERIES
    known |= {*PLAIN, *TILTED, *MOSAICS, *UNEVEN, f"{XA30}/8_gre_field_mapping"}
    there = set()
    for folder in shared_data.glob("dicom_*"):
        for path in files_of(folder):
            if path.suffix == ".zip":
                there.add(str(path.relative_to(shared_data)))
            elif has_magic(path.read_bytes()[:132]):
                there.add(str(path.parent.relative_to(shared_data)))
    assert there == known
