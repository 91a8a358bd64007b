"""Objects of other sources than a pair of CT: PET, MONOCHROME1, two studies, one side NIfTI."""

import shutil
import subprocess
import zipfile
from io import BytesIO

import nibabel
import numpy as np
import pydicom
import pytest
from numpy.testing import assert_allclose
from pydicom import Dataset
from pydicom.sequence import Sequence

from service.registration.dicom_results import DEFORMABLE, FIGURES, SPATIAL, WARPED
from service.registration.fields import DisplacementField
from service.registration.files.dicom.objects.derived import _through_zero
from service.registration.files.dicom.objects.transforms import deformable_registration
from service.registration.files.dicom.objects.writing import context_of
from service.registration.files.dicom.origin import Instance, Origin
from service.registration.grid import Grid
from service.registration.models_folder import ModelFolder
from service.registration.options import RegisterOptions
from service.registration.pipeline import register_files
from tests.conftest import DIRECTIONS
from tests.dicoms import affine_of, write_series
from tests.parity.test_dicom_objects import blobs, grid_points

PET = "1.2.840.10008.5.1.4.1.1.128"
SHAPE = (30, 32, 20)
AFFINE = affine_of(DIRECTIONS["oblique"], (1.5, 1.2, 2.5), (3, -5, 7))


@pytest.fixture(scope="module")
def models():
    return ModelFolder(provider="cpu")


def as_pet(made, _k):
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = PET
    made.Modality, made.Units, made.DecayCorrection = "PT", "BQML", "START"
    made.DecayFactor, made.ActualFrameDuration = 1.2, 1000
    made.CountsSource, made.SeriesType = "EMISSION", ["STATIC", "IMAGE"]
    drug = Dataset()
    drug.Radiopharmaceutical, drug.RadiopharmaceuticalStartTime = "FDG", "101500"
    made.RadiopharmaceuticalInformationSequence = Sequence([drug])


def as_monochrome1(made, _k):
    made.PhotometricInterpretation = "MONOCHROME1"


def registered(root, models, *, change=None, **moving):
    """Two series, the second of that kind; gives the folder of results."""
    write_series(root / "fixed", blobs(SHAPE, 1), AFFINE, series="1.2.1")
    modality = moving.pop("modality", "CT")
    write_series(
        root / "moving", blobs(SHAPE, 1), AFFINE,
        series="1.2.2", modality=modality, change=change, **moving,
    )  # fmt: skip
    files = {role: root / role for role in ("fixed", "moving")}
    register_files(files, RegisterOptions(refine="none"), root / "out", models)
    return root / "out"


def slices_of(out):
    with zipfile.ZipFile(out / WARPED) as archive:
        return [pydicom.dcmread(BytesIO(archive.read(name))) for name in archive.namelist()]


def errors_of(path):
    done = subprocess.run(
        ["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False
    )
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


def test_a_pet_stays_a_pet(tmp_path, models):
    slices = slices_of(registered(tmp_path, models, change=as_pet))
    first = slices[0]
    assert (first.SOPClassUID, first.Modality, first.Units) == (PET, "PT", "BQML")
    assert first.FrameOfReferenceUID == "1.2.1.9"
    assert first.RadiopharmaceuticalInformationSequence[0].Radiopharmaceutical == "FDG"
    assert [one.ImageIndex for one in slices] == list(range(1, 21))
    warped = np.asarray(nibabel.load(tmp_path / "out" / "warped.nii.gz").dataobj)
    for k, one in enumerate(slices):
        assert one.RescaleIntercept == 0
        assert_allclose(one.pixel_array.T * float(one.RescaleSlope), warped[:, :, k], atol=0.51)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not installed")
@pytest.mark.parametrize(
    "kind", [{"change": as_pet}, {"modality": "MR"}, {"change": as_monochrome1}]
)
def test_each_kind_is_valid(tmp_path, models, kind):
    path = tmp_path / "first.dcm"
    slices_of(registered(tmp_path, models, **kind))[0].save_as(path)
    assert not errors_of(path)


def test_monochrome1_keeps_its_values_and_its_looks(tmp_path, models):
    out = registered(tmp_path, models, change=as_monochrome1)
    warped = np.asarray(nibabel.load(out / "warped.nii.gz").dataobj)
    for k, one in enumerate(slices_of(out)):
        assert one.PhotometricInterpretation == "MONOCHROME1"
        values = one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept)
        assert_allclose(values.T, warped[:, :, k], atol=0.51)


def test_a_moving_image_of_another_study_is_referred_to_as_such(tmp_path, models):
    out = registered(tmp_path, models, StudyInstanceUID="1.2.99", StudyDate="20270203")
    for name in (SPATIAL, DEFORMABLE):
        made = pydicom.dcmread(out / name)
        assert made.StudyInstanceUID == "1.2.3"
        assert [one.SeriesInstanceUID for one in made.ReferencedSeriesSequence] == ["1.2.1"]
        (other,) = made.StudiesContainingOtherReferencedInstancesSequence
        assert other.StudyInstanceUID == "1.2.99"
        assert [one.SeriesInstanceUID for one in other.ReferencedSeriesSequence] == ["1.2.2"]
    report = pydicom.dcmread(out / FIGURES)
    evidence = report.CurrentRequestedProcedureEvidenceSequence
    assert [one.StudyInstanceUID for one in evidence] == ["1.2.3", "1.2.99"]
    assert report.ContentDate == "20270203"  # the later of the two


@pytest.mark.parametrize("role", ["fixed", "moving"])
def test_with_one_side_nifti_no_dicom_is_written(tmp_path, models, role):
    files = {one: tmp_path / one for one in ("fixed", "moving")}
    other = "moving" if role == "fixed" else "fixed"
    write_series(files[other], blobs(SHAPE, 1), AFFINE, series="1.2.1")
    left_handed = AFFINE @ np.diag([-1.0, 1.0, 1.0, 1.0])
    files[role] = tmp_path / f"{role}.nii"
    nibabel.save(nibabel.Nifti1Image(blobs(SHAPE, 1)[::-1], left_handed), files[role])
    register_files(files, RegisterOptions(refine="none"), tmp_path / "out", models)
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert "ddf.nii.gz" in written
    assert not [name for name in written if "dcm" in name or "dicom" in name]


@pytest.mark.parametrize("flipped", [(1, 1, 1), (-1, 1, 1), (1, -1, 1), (1, 1, -1), (-1, -1, -1)])
def test_the_grid_is_right_handed_whatever_the_fields_was(flipped, rng):
    """The standard gives no third direction: it is the cross product of the two that it gives."""
    origins = [Origin(Dataset(), (Instance(PET, f"1.2.{n}", 1, (0, 0, 0)),)) for n in (1, 2)]
    affine = AFFINE @ np.diag([*map(float, flipped), 1.0])
    grid = Grid((5, 4, 3), affine)
    ddf = DisplacementField(rng.normal(size=(5, 4, 3, 3)).astype(np.float32), grid)
    made = deformable_registration(context_of(*origins, seed="s"), ddf)
    item = made.DeformableRegistrationSequence[0].DeformableRegistrationGridSequence[0]
    points, offsets = grid_points(item)  # LPS, k j i
    at = (points * (-1, -1, 1)).reshape(-1, 3)
    index = np.rint((at - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T).astype(int)
    assert_allclose(grid.to_world(index.astype(float)), at, atol=1e-4)
    found = (offsets * np.float32([-1, -1, 1])).reshape(-1, 3)
    assert_allclose(found, ddf.vectors_mm[tuple(index.T)], atol=1e-6)


def test_the_least_integer_of_a_pet_is_not_lost():
    """It has no absolute value in its own type."""
    data = np.array([[[np.iinfo(np.int32).min, 0, 1000]]], np.int32)
    stored, slope, intercept = _through_zero(data)
    assert intercept == 0
    assert_allclose(stored * slope, data, atol=slope)
