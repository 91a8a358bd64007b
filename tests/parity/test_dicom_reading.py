"""Series of real scanners: our voxels and affine against those that dcm2niix and dicom2nifti got.

The reference may run along the axes in another direction; both are brought to RAS.
"""

import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.testing import assert_allclose

from service.registration.files.dicom.reading import find_volumes, read_stack
from service.registration.files.limits import Limits

pytestmark = pytest.mark.real_data

SUITE = "dicom_2nifti_suite"
MOSAICS = "dicom_mr_epi_mosaic_orient"
PHANTOM = "dicom_mr_phantom_jpegll"
XA30 = "dicom_mr_enhanced_xa30"
# Folder or archive of a series, its reference, and how far corners may lie apart, in mm.
CASES = [
    (f"{SUITE}/ge/anatomical/001", f"{SUITE}/ge/anatomical/001_ground_truth.nii.gz", 1e-3),
    (
        f"{SUITE}/generic/anatomical/001",
        f"{SUITE}/generic/anatomical/001_ground_truth.nii.gz",
        1e-3,
    ),
    (
        f"{SUITE}/generic/anatomical/002_non_isotropic",
        f"{SUITE}/generic/anatomical/002_non_isotropic_ground_truth.nii.gz",
        1e-3,
    ),
    (
        f"{SUITE}/generic/compressed_j2k/001",
        f"{SUITE}/generic/compressed_j2k/001_ground_truth.nii.gz",
        1e-3,
    ),
    (
        f"{SUITE}/generic/compressed_jpeg/001",
        f"{SUITE}/generic/compressed_jpeg/001_ground_truth.nii.gz",
        1e-3,
    ),
    (
        f"{SUITE}/siemens/anatomical/001",
        f"{SUITE}/siemens/anatomical/001_ground_truth.nii.gz",
        1e-3,
    ),
    (f"{XA30}/5_anat-T1w_acq-tfl", f"{XA30}/dcm2niix_ref/5_anat-T1w_acq-tfl.nii.gz", 1e-3),
    # dcm2niix takes the spacing of the first two slices, we that of all: 0.01 mm over 96 slices.
    (f"{PHANTOM}/mr_phantom_5001.zip", f"{PHANTOM}/anat-T1w_acq-tfl_5001.nii.gz", 0.011),
]
SERIES_OF_VOLUMES = [
    (f"{MOSAICS}/axasc35", f"{MOSAICS}/dcm2niix_ref/ax_asc_35sl_6.nii.gz"),
    (f"{MOSAICS}/corasc35", f"{MOSAICS}/dcm2niix_ref/cor_asc_35sl_16.nii.gz"),
    (f"{MOSAICS}/sagasc35", f"{MOSAICS}/dcm2niix_ref/sag_asc_35sl_22.nii.gz"),
    (f"{MOSAICS}/axmb_AxAsc36mb2a", f"{MOSAICS}/dcm2niix_ref/fMRI_MB_asc_25.nii.gz"),
]


def files_of(path: Path, scratch: Path) -> list[Path]:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            archive.extractall(scratch)
        path = scratch
    return sorted(file for file in path.rglob("*") if file.is_file())


def in_ras(data, affine):
    image = nibabel.as_closest_canonical(nibabel.Nifti1Image(data.astype(np.float64), affine))
    return image.get_fdata(), image.affine


def assert_same(volume, data, affine, corner_mm=1e-3):
    ours, our_affine = in_ras(volume.data, volume.grid.affine)
    theirs, their_affine = in_ras(data, affine)
    assert ours.shape == theirs.shape
    assert_allclose(ours, theirs, rtol=1e-6, atol=1e-5)
    far = np.array([*ours.shape, 1.0]) - (1, 1, 1, 0)
    assert_allclose(our_affine @ far, their_affine @ far, atol=corner_mm)
    assert_allclose(our_affine[:3, 3], their_affine[:3, 3], atol=corner_mm)


@pytest.mark.parametrize(("series", "reference", "corner_mm"), CASES, ids=lambda x: str(x)[-40:])
def test_series_is_what_others_make_of_it(series, reference, corner_mm, shared_data, tmp_path):
    found = find_volumes(files_of(shared_data / series, tmp_path))
    assert len(found.stacks) == 1
    volume = read_stack(found, found.stacks[0], Limits(), [])
    image = nibabel.load(shared_data / reference)
    assert_same(volume, np.asarray(image.dataobj), image.affine, corner_mm)


@pytest.mark.parametrize(("series", "reference"), SERIES_OF_VOLUMES, ids=lambda x: str(x)[-24:])
def test_each_mosaic_is_a_volume(series, reference, shared_data, tmp_path):
    found = find_volumes(files_of(shared_data / series, tmp_path))
    image = nibabel.load(shared_data / reference)
    data = np.asarray(image.dataobj)
    ours = [read_stack(found, stack, Limits(), []) for stack in found.stacks]
    theirs = [data[..., n] for n in range(data.shape[3])]
    # The files' names do not follow time: each of ours is one of theirs.
    assert len(ours) == len(theirs)
    order = sorted(range(2), key=lambda n: float(ours[n].data.sum()))
    expected = sorted(range(2), key=lambda n: float(theirs[n].sum()))
    for n, m in zip(order, expected, strict=True):
        assert_same(ours[n], theirs[m], image.affine)


def test_two_echoes_are_told_apart(shared_data, tmp_path):
    folder = shared_data / XA30 / "8_gre_field_mapping"
    found = find_volumes(files_of(folder, tmp_path))
    assert [dict(stack.apart)["echo time (ms)"] for stack in found.stacks] == ["10", "12.46"]
    for stack, name in zip(found.stacks, ("e1", "e2"), strict=True):
        image = nibabel.load(
            shared_data / XA30 / "dcm2niix_ref" / f"8_gre_field_mapping_{name}.nii"
        )
        volume = read_stack(found, stack, Limits(), [])
        assert_same(volume, np.asarray(image.dataobj), image.affine)
