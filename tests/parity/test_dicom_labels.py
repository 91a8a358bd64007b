"""Segmentations and structure sets of others, against the label maps that those others wrote."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from service.errors import BadPointsError
from service.registration.files.dicom import marks
from service.registration.files.dicom.contours import read_contours
from service.registration.files.dicom.marks import read_marks
from service.registration.files.dicom.reading import find_volumes, grid_of
from service.registration.files.dicom.segments import read_segments
from service.registration.files.dicom.source import read_dicom, read_dicom_labels
from service.registration.files.limits import Limits
from service.registration.grid import Grid
from tests.dicoms import read_back

DCMQI = "dicom_seg_sr/dcmqi"
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def grid_of_folder(folder: Path) -> Grid:
    found = find_volumes(sorted(folder.iterdir()))
    return grid_of(found.stacks[0], Limits(), [])


def reference(path: Path, grid: Grid) -> np.ndarray:
    """What SimpleITK finds in a label map at the voxels of a grid; 0 outside."""
    image = SimpleITK.ReadImage(str(path))
    data = SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0)
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    centres = np.moveaxis(np.indices(grid.shape), 0, -1).astype(float)
    to_theirs = np.linalg.inv(LPS @ affine) @ grid.affine
    index = np.rint(centres @ to_theirs[:3, :3].T + to_theirs[:3, 3]).astype(int)
    inside = ((index >= 0) & (index < data.shape)).all(axis=-1)
    index = np.clip(index, 0, np.array(data.shape) - 1)
    return np.where(inside, data[index[..., 0], index[..., 1], index[..., 2]], 0)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("image", "labels", "expected"),
    [
        ("ct-3slice", "liver.dcm", "liver_seg.nrrd"),
        ("23x38x3/image", "23x38x3/seg/label.seg", "23x38x3/nrrd/label.nrrd"),
        ("24x38x3/image", "24x38x3/seg/label.seg", "24x38x3/nrrd/label.nrrd"),
        ("24x38x3/image", "sparse-labelmap-noppv.dcm", "sparse_labelmap_noppv_seg.nrrd"),
    ],
)
def test_segments_lie_where_dcmqi_has_them(image, labels, expected, shared_data):
    grid = grid_of_folder(shared_data / DCMQI / image)
    ours = read_dicom_labels(shared_data / DCMQI / labels, grid, Limits())
    theirs = reference(shared_data / DCMQI / expected, grid)
    assert theirs.any()
    np.testing.assert_array_equal(ours.data, theirs)


@pytest.mark.real_data
def test_padding_of_a_label_map_is_background(shared_data):
    grid = grid_of_folder(shared_data / DCMQI / "24x38x3/image")
    labels = shared_data / DCMQI / "sparse-labelmap-ppv5.dcm"
    ours = read_dicom_labels(labels, grid, Limits())
    theirs = reference(shared_data / DCMQI / "sparse_labelmap_ppv5_seg.nrrd", grid)
    np.testing.assert_array_equal(ours.data, np.where(theirs == 5, 0, theirs))


@pytest.mark.real_data
def test_overlapping_segments_are_told(shared_data):
    grid = grid_of_folder(shared_data / DCMQI / "ct-3slice")
    ours = read_dicom_labels(
        shared_data / DCMQI / "partial_overlaps.dcm", grid, Limits(), warnings := []
    )
    assert set(np.unique(ours.data)) == {0, 1, 2, 3, 4, 5}
    assert "overlap in 3134 voxels" in warnings[0]


def test_a_voxel_between_two_planes_of_one_segment_is_no_overlap():
    planes = Dataset()
    planes.file_meta = FileMetaDataset()
    planes.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    planes.SamplesPerPixel, planes.PhotometricInterpretation = 1, "MONOCHROME2"
    planes.BitsAllocated = planes.BitsStored = 8
    planes.HighBit, planes.PixelRepresentation = 7, 0
    planes.Rows = planes.Columns = 4
    planes.NumberOfFrames, planes.PixelData = 2, bytes([1]) * 32
    planes.PerFrameFunctionalGroupsSequence = [_plane_of_segment(3, z_mm) for z_mm in (0, 2)]
    labels = read_segments(planes, Grid((4, 4, 4), np.diag([-1.0, -1, 1, 1])), warnings := [])
    assert warnings == []
    np.testing.assert_array_equal(labels, np.full((4, 4, 4), 3))


def _plane_of_segment(segment, z_mm):
    groups, place, turned, measures, named = (Dataset() for _ in range(5))
    place.ImagePositionPatient = [0, 0, z_mm]
    turned.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing, measures.SliceThickness = [1, 1], 2
    named.ReferencedSegmentNumber = segment
    groups.PlanePositionSequence, groups.PlaneOrientationSequence = [place], [turned]
    groups.PixelMeasuresSequence, groups.SegmentIdentificationSequence = [measures], [named]
    return groups


@pytest.mark.real_data
def test_contours_have_the_volume_that_the_benchmark_publishes(shared_data):
    """IBSI 1 gives the phantom's GTV 358,000 mm3 by counting voxels, mesh 357,000."""
    folder = shared_data / "dicom_lung_ct_rtstruct_ibsi"
    image, _ = read_dicom(folder / "ibsi_ct_image.zip", Limits())
    labels = read_dicom_labels(folder / "rtstruct", image.grid, Limits())
    volume_mm3 = (labels.data > 0).sum() * image.grid.voxel_volume_mm3
    assert volume_mm3 == pytest.approx(358_500, rel=0.01)


def test_a_contour_within_a_contour_is_a_hole():
    def square(low, high):
        contour = Dataset()
        contour.ContourGeometricType = "CLOSED_PLANAR"
        corners = [(low, low), (high, low), (high, high), (low, high)]
        contour.ContourData = [x for i, j in corners for x in (-i, -j, 2.0)]  # LPS
        return contour

    structure, item = Dataset(), Dataset()
    item.ReferencedROINumber = 1
    item.ContourSequence = [square(0.5, 8.5), square(2.5, 5.5)]
    structure.ROIContourSequence = [item]
    labels = read_contours(structure, Grid((10, 10, 4), np.eye(4)), [])
    expected = np.zeros((10, 10, 4), int)
    expected[1:9, 1:9, 2] = 1
    expected[3:6, 3:6, 2] = 0
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.real_data
def test_a_report_without_points_says_so(shared_data):
    report = read_back(shared_data / "dicom_seg_sr" / "pydicom" / "reportsi.dcm")
    with pytest.raises(BadPointsError):
        read_marks(report)


def test_a_report_of_too_many_points_says_so(monkeypatch):
    point = Dataset()
    point.ValueType, point.GraphicType, point.GraphicData = "SCOORD3D", "POINT", [1.0, 2.0, 3.0]
    report = Dataset()
    report.ContentSequence = [point, point, point]
    assert read_marks(report).tolist() == [[-1.0, -2.0, 3.0]] * 3
    monkeypatch.setattr(marks, "MOST_POINTS", 2)
    with pytest.raises(BadPointsError, match="marks 3 points"):
        read_marks(report)
