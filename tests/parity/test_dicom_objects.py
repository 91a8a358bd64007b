"""What we write as DICOM, read by code that knows the standard's text and nothing of ours.

Source: DICOM PS3.3 C.20.3.1.1: Registered coordinates, plus the offset of the grid, are Source
coordinates; C.20.2.1.1: the matrix takes Source coordinates to Registered ones.
"""

import shutil
import subprocess
import zipfile

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
from numpy.testing import assert_allclose
from scipy.ndimage import gaussian_filter, map_coordinates

from service.registration.dicom_results import DEFORMABLE, FIGURES, LABELS, SPATIAL, WARPED
from service.registration.models_folder import ModelFolder
from service.registration.options import RegisterOptions
from service.registration.pipeline import register_files
from tests.conftest import DIRECTIONS
from tests.dicoms import affine_of, write_series

SPACING_MM = (1.5, 1.2, 2.5)


def blobs(shape, seed):
    """Smooth random structures, int16; the same in the middle for shapes that differ a little."""
    rng = np.random.default_rng(seed)
    data = gaussian_filter(rng.normal(size=(44, 44, 32)), 2.0)
    start = [(have - want) // 2 for have, want in zip(data.shape, shape, strict=True)]
    part = tuple(slice(a, a + n) for a, n in zip(start, shape, strict=True))
    return (data[part] * 20000).astype(np.int16)


@pytest.fixture(scope="module")
def models():
    return ModelFolder(provider="cpu")


@pytest.fixture(scope="module", params=["RAS", "LPS", "oblique"])
def result(request, tmp_path_factory, models):
    """A pair of series, registered; fixed and moving lie on other grids."""
    root = tmp_path_factory.mktemp(request.param)
    rotation = DIRECTIONS[request.param]
    fixed, moving = blobs((36, 40, 24), seed=1), blobs((34, 38, 26), seed=1)
    write_series(root / "fixed", fixed, affine_of(rotation, SPACING_MM, (3, -5, 7)), series="1.2.1")
    write_series(
        root / "moving",
        moving,
        affine_of(rotation, (1.6, 1.25, 2.3), (1, -6, 9)),
        series="1.2.2",
        intercept=-100.0,
    )
    out = root / "out"
    files = {"fixed": root / "fixed", "moving": root / "moving"}
    register_files(files, RegisterOptions(), out, models)
    return root


def lps_volume(files):
    """Values (k, j, i) and the matrix from (i, j, k) to LPS mm, of a series of single slices."""
    slices = [pydicom.dcmread(file) for file in files]
    row, column = np.reshape(slices[0].ImageOrientationPatient, (2, 3)).astype(float)
    normal = np.cross(row, column)
    slices.sort(key=lambda one: float(np.dot(one.ImagePositionPatient, normal)))
    values = np.stack(
        [one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept) for one in slices]
    )
    positions = np.array([one.ImagePositionPatient for one in slices], float)
    matrix = np.eye(4)
    matrix[:3, 0] = row * float(slices[0].PixelSpacing[1])
    matrix[:3, 1] = column * float(slices[0].PixelSpacing[0])
    matrix[:3, 2] = (positions[-1] - positions[0]) / (len(slices) - 1)
    matrix[:3, 3] = positions[0]
    return values, matrix


def warped_series(root):
    with zipfile.ZipFile(root / "out" / WARPED) as archive:
        archive.extractall(root / "warped")
    return sorted((root / "warped").iterdir())


def grid_points(grid):
    """Registered coordinates (LPS) of each grid point, x fastest, and the offsets there."""
    nx, ny, nz = map(int, grid.GridDimensions)
    row, column = np.reshape(grid.ImageOrientationPatient, (2, 3)).astype(float)
    steps = np.array(grid.GridResolution, float)
    z, y, x = np.meshgrid(np.arange(nz), np.arange(ny), np.arange(nx), indexing="ij")
    points = (
        np.array(grid.ImagePositionPatient, float)
        + x[..., None] * steps[0] * row
        + y[..., None] * steps[1] * column
        + z[..., None] * steps[2] * np.cross(row, column)
    )
    offsets = np.frombuffer(grid.VectorGridData, "<f4").reshape(nz, ny, nx, 3)
    return points, offsets


def test_offsets_pull_the_moving_series_to_where_our_image_has_it(result):
    registration = pydicom.dcmread(result / "out" / DEFORMABLE)
    item = registration.DeformableRegistrationSequence[0]
    points, offsets = grid_points(item.DeformableRegistrationGridSequence[0])
    moving, to_lps = lps_volume(sorted((result / "moving").iterdir()))
    source = points + offsets
    index = (source - to_lps[:3, 3]) @ np.linalg.inv(to_lps[:3, :3]).T
    inside = ((index >= 0) & (index <= np.array(moving.shape)[::-1] - 1)).all(axis=-1)
    sampled = map_coordinates(moving, np.moveaxis(index[..., ::-1], -1, 0), order=1)
    ours, at = lps_volume(warped_series(result))
    assert_allclose(at @ (0, 0, 0, 1), [*points[0, 0, 0], 1], atol=1e-3)
    assert inside.mean() > 0.5
    assert_allclose(ours[inside], sampled[inside], atol=0.51)  # ours are whole numbers


def test_matrix_takes_source_positions_to_registered_ones(result):
    registration = pydicom.dcmread(result / "out" / SPATIAL)
    ours = np.loadtxt(result / "out" / "affine.txt", comments="#")
    fixed, moving = registration.RegistrationSequence
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    for item, expected in ((fixed, np.eye(4)), (moving, flip @ np.linalg.inv(ours) @ flip)):
        matrix = item.MatrixRegistrationSequence[0].MatrixSequence[0]
        found = np.reshape(matrix.FrameOfReferenceTransformationMatrix, (4, 4)).astype(float)
        assert_allclose(found, expected, atol=1e-5)
    assert fixed.FrameOfReferenceUID == registration.FrameOfReferenceUID == "1.2.1.9"
    assert moving.FrameOfReferenceUID == "1.2.2.9"


def test_warped_series_lies_where_the_fixed_one_does(result):
    _, ours = lps_volume(warped_series(result))
    _, fixed = lps_volume(sorted((result / "fixed").iterdir()))
    assert_allclose(ours, fixed, atol=1e-3)
    first = pydicom.dcmread(warped_series(result)[0])
    assert first.FrameOfReferenceUID == "1.2.1.9"
    assert first.ImageType[0] == "DERIVED"
    assert first.PatientID == "P1"
    volume = highdicom.get_volume_from_series(
        [pydicom.dcmread(file) for file in warped_series(result)]
    )
    assert volume.array.shape == (24, 40, 36)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not installed")
@pytest.mark.parametrize("name", [WARPED, SPATIAL, DEFORMABLE, FIGURES])
def test_objects_are_valid(result, name):
    path = warped_series(result)[0] if name == WARPED else result / "out" / name
    done = subprocess.run(
        ["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False
    )
    said = (done.stdout + done.stderr).splitlines()
    assert not [line for line in said if line.startswith("Error")]


def test_figures_are_in_the_structured_report(result):
    report = pydicom.dcmread(result / "out" / FIGURES)
    names = [item.ConceptNameCodeSequence[0].CodeValue for item in report.ContentSequence]
    assert names[0] == "VERDICT"
    assert {"NCC-BEFORE", "NCC-AFTER", "FOLDING"} <= set(names)


def test_labels_come_back_as_a_segmentation(tmp_path, models):
    data = blobs((30, 32, 20), seed=2)
    affine = affine_of(DIRECTIONS["oblique"], SPACING_MM, (0, 0, 0))
    write_series(tmp_path / "fixed", data, affine, series="1.2.1")
    write_series(tmp_path / "moving", data, affine, series="1.2.2")
    labels = np.zeros(data.shape, np.uint8)
    labels[8:20, 9:21, 5:12] = 4
    labels[20:26, 9:21, 5:12] = 9
    nibabel.save(nibabel.Nifti1Image(labels, affine), tmp_path / "labels.nii")
    files = {role: tmp_path / role for role in ("fixed", "moving")}
    files["moving_labels"] = tmp_path / "labels.nii"
    register_files(files, RegisterOptions(refine="none"), tmp_path / "out", models)
    register_files(files, RegisterOptions(refine="none"), tmp_path / "again", models)
    one, two = ((tmp_path / out / LABELS).read_bytes() for out in ("out", "again"))
    assert one == two
    segmentation = highdicom.seg.segread(tmp_path / "out" / LABELS)
    volume = segmentation.get_volume(combine_segments=True)
    named = {
        number: segmentation.get_segment_description(number).segment_label
        for number in segmentation.segment_numbers
    }
    assert named == {1: "Label 4", 2: "Label 9"}
    warped = np.asarray(nibabel.load(tmp_path / "out" / "warped_labels.nii.gz").dataobj)
    for number, label in ((1, 4), (2, 9)):
        assert int((volume.array == number).sum()) == int((warped == label).sum())
        mine = nibabel.affines.apply_affine(affine, np.argwhere(warped == label)).mean(axis=0)
        index = np.argwhere(volume.array == number).mean(axis=0)
        theirs = (volume.affine @ [*index, 1])[:3] * (-1, -1, 1)
        assert_allclose(theirs, mine, atol=1e-3)


def test_a_rerun_makes_the_same_bytes(result, models):
    """An archive that has the objects gets the same again, to the last byte."""
    files = {role: result / role for role in ("fixed", "moving")}
    register_files(files, RegisterOptions(), result / "again", models)
    for name in (SPATIAL, DEFORMABLE, FIGURES, WARPED):
        one, two = ((result / out / name).read_bytes() for out in ("out", "again"))
        assert one == two


def test_other_numbers_get_other_uids(result, models):
    files = {role: result / role for role in ("fixed", "moving")}
    register_files(files, RegisterOptions(refine="none"), result / "other", models)
    for name in (SPATIAL, DEFORMABLE, FIGURES):
        one, two = (pydicom.dcmread(result / out / name) for out in ("out", "other"))
        assert one.SOPInstanceUID != two.SOPInstanceUID
        assert one.SeriesInstanceUID != two.SeriesInstanceUID


def test_objects_bear_the_date_of_the_study_and_no_other(result):
    report = pydicom.dcmread(result / "out" / FIGURES)
    assert (report.ContentDate, report.ContentTime) == ("20260102", "101112")
    assert "InstanceCreationDate" not in report
    assert "SeriesDate" not in report
