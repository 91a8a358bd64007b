"""Series of known voxels against what they were made of, highdicom and dcm2niix.

Where those two differ from us, and why, stands in docs/dicom.md.
"""

import shutil
import subprocess

import highdicom
import nibabel
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pydicom import Dataset, Sequence, dcmread
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from service.errors import SeriesNotFoundError
from service.registration.files.dicom.reading import chosen, find_volumes, read_stack
from service.registration.files.limits import Limits
from tests.conftest import DIRECTIONS
from tests.dicom_malformed_series import SLICES, enhanced, frame
from tests.dicoms import LPS, affine_of, write_series

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
SHAPE = (36, 33, 14)
SPACING_MM = (0.8, 0.9, 3.0)
ORIGIN_MM = (-12.0, 7.0, 31.0)


def noise(dtype, low, high):
    return np.random.default_rng(7).integers(low, high, SHAPE).astype(dtype)


def packed(syntax):
    def change(one, _):
        one.compress(syntax, generate_instance_uid=False)

    return change


def by_dcmtk(folder):
    """JPEG lossless, which pydicom does not write."""
    for path in folder.iterdir():
        subprocess.run(["dcmcjpeg", "+e1", str(path), str(path)], check=True)


def shuffled(one, k):
    one.InstanceNumber = 1 + (k * 5) % SHAPE[2]


def steep(one, k):
    one.RescaleSlope, one.RescaleIntercept = 0.5 + 0.25 * k, -100.0 + k


def overlaid(one, _):
    """Bits above the twelve that count, as old scanners keep overlays there."""
    one.BitsStored, one.HighBit = 12, 11
    stored = np.frombuffer(one.PixelData, np.uint16)
    one.PixelData = (stored | 0xA000).tobytes()


def of_8_bits(one, _):
    stored = np.frombuffer(one.PixelData, np.uint16)
    one.BitsAllocated = one.BitsStored = 8
    one.HighBit = 7
    one.PixelData = stored.astype(np.uint8).tobytes()


def inverted(one, _):
    one.PhotometricInterpretation = "MONOCHROME1"


def mirrored(direction):
    return direction * (1, 1, -1)


SIGNED, TWELVE = ("int16", -3000, 3000), ("uint16", 0, 4096)
# Name: voxels, directions, change of each data set, who agrees with us.
CASES = {
    "plain": (SIGNED, "LPS", None, "highdicom dcm2niix"),
    "oblique": (SIGNED, "oblique", None, "highdicom dcm2niix"),
    "descending": (SIGNED, "LAS", None, "highdicom dcm2niix"),
    "shuffled-numbers": (SIGNED, "oblique", shuffled, "highdicom dcm2niix"),
    "slope-per-slice": (SIGNED, "LPS", steep, "highdicom dcm2niix"),
    "pet-slope-per-slice": (("uint16", 0, 60_000), "LPS", steep, "highdicom dcm2niix"),
    "unsigned-16": (("uint16", 0, 65_536), "oblique", None, "highdicom dcm2niix"),
    "unsigned-12-with-high-bits": (TWELVE, "LPS", overlaid, "highdicom dcm2niix"),
    "unsigned-8": (("uint16", 0, 256), "oblique", of_8_bits, "highdicom dcm2niix"),
    "monochrome1": (TWELVE, "LPS", inverted, "dcm2niix"),
    "rle": (SIGNED, "oblique", packed(RLELossless), "highdicom dcm2niix"),
    "jpeg-2000": (SIGNED, "oblique", packed(JPEG2000Lossless), "highdicom dcm2niix"),
    "jpeg-2000-unsigned": (TWELVE, "LPS", packed(JPEG2000Lossless), "highdicom dcm2niix"),
    "jpeg-ls": (TWELVE, "oblique", packed(JPEGLSLossless), "highdicom"),
    "jpeg-lossless": (TWELVE, "oblique", "dcmtk", "highdicom dcm2niix"),
}


def read(folder, number=0):
    found = find_volumes(sorted(path for path in folder.rglob("*") if path.is_file()))
    warnings = []
    return read_stack(found, found.stacks[number], Limits(), warnings), found, warnings


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    """Folder, true values, true affine, who agrees."""
    (dtype, low, high), directions, change, agreeing = CASES[request.param]
    folder = tmp_path_factory.mktemp("case") / "series"
    rotation = DIRECTIONS[directions]
    if directions == "LAS":  # columns x rows of the image is downwards: written from the top
        rotation = mirrored(DIRECTIONS["LPS"])
    data, affine = noise(dtype, low, high), affine_of(rotation, SPACING_MM, ORIGIN_MM)
    is_by_dcmtk = change == "dcmtk"
    if is_by_dcmtk and shutil.which("dcmcjpeg") is None:
        pytest.skip("dcmcjpeg is not installed")
    write_series(folder, data, affine, change=None if is_by_dcmtk else change)
    if is_by_dcmtk:
        by_dcmtk(folder)
    values = data.astype(np.float64)
    if change is steep:
        k = np.arange(SHAPE[2])
        values = values * (0.5 + 0.25 * k) + (-100.0 + k)
    return folder, values, affine, agreeing.split()


def at_same_places(ours, affine, theirs, their_affine):
    """Their values at our voxels' centres, which must be centres of theirs, to 0.01 voxel."""
    index = np.stack(np.meshgrid(*map(np.arange, ours.shape), indexing="ij"), -1)
    there = np.linalg.inv(their_affine) @ affine
    at = index @ there[:3, :3].T + there[:3, 3]
    assert np.abs(at - np.rint(at)).max() < 0.01
    where = np.rint(at).astype(int)
    assert sorted(ours.shape) == sorted(theirs.shape)
    return theirs[tuple(np.moveaxis(where, -1, 0))]


def test_voxels_and_places_are_those_it_was_made_of(case):
    folder, values, affine, _ = case
    volume, found, warnings = read(folder)
    assert len(found.stacks) == 1
    assert not warnings
    seen = at_same_places(volume.data, volume.grid.affine, values, affine)
    assert_allclose(volume.data, seen, rtol=1e-6)


def test_highdicom_agrees(case):
    folder, _, _, agreeing = case
    if "highdicom" not in agreeing:
        pytest.skip("it differs, see docs/dicom.md")
    volume, _, _ = read(folder)
    theirs = highdicom.get_volume_from_series([dcmread(path) for path in folder.iterdir()])
    seen = at_same_places(volume.data, LPS @ volume.grid.affine, theirs.array, theirs.affine)
    assert_allclose(volume.data, seen, rtol=1e-6)


@pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="dcm2niix is not installed")
def test_dcm2niix_agrees(case, tmp_path):
    folder, _, _, agreeing = case
    if "dcm2niix" not in agreeing:
        pytest.skip("it differs, see docs/dicom.md")
    command = ["dcm2niix", "-z", "n", "-b", "n", "-f", "x", "-o", str(tmp_path), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    image = nibabel.load(tmp_path / "x.nii")
    volume, _, _ = read(folder)
    seen = at_same_places(volume.data, volume.grid.affine, np.asarray(image.dataobj), image.affine)
    assert_allclose(volume.data, seen, rtol=1e-5, atol=1e-2)


# --- a linear function of the world comes back where slices were resampled ---

GRADIENT = np.array([110.0, -70.0, 90.0])  # a voxel is 50 and more: rounding is under 0.01 of it


def linear(points):
    return points @ GRADIENT + 5.0


def sampled(folder, positions_mm, directions):
    """A series of slices at these places along (row, column, normal), valued linear(world)."""
    rotation = DIRECTIONS[directions]
    affine = affine_of(rotation, (1.0, 1.0, 2.0), ORIGIN_MM)
    i, j = np.meshgrid(np.arange(24), np.arange(22), indexing="ij")
    starts = np.array(positions_mm) @ rotation.T + ORIGIN_MM
    worlds = (
        starts[:, None, None]
        + i[None, ..., None] * affine[:3, 0]
        + j[None, ..., None] * affine[:3, 1]
    )
    data = np.moveaxis(np.rint(linear(worlds)), 0, -1).astype(np.int16)

    def change(one, k):
        one.ImagePositionPatient = [*map(float, LPS[:3, :3] @ starts[k])]

    write_series(folder, data, affine, change=change)


def inside(volume):
    """All but what lies near the edge, where there was nothing to read."""
    index = np.stack(np.meshgrid(*map(np.arange, volume.data.shape), indexing="ij"), -1)
    return index, index @ volume.grid.affine[:3, :3].T + volume.grid.affine[:3, 3]


@pytest.mark.parametrize("directions", ["LPS", "oblique"])
@pytest.mark.parametrize("degrees", [-25.0, 3.0, 15.0, 30.0])
@pytest.mark.parametrize("rounding_mm", [0.0, 1e-7, -1e-7])
def test_a_tilted_gantry(tmp_path, directions, degrees, rounding_mm):
    shift = np.tan(np.radians(degrees)) * 2.0
    places = [(rounding_mm * (k % 2), shift * k, 2.0 * k) for k in range(12)]
    sampled(tmp_path / "s", places, directions)
    volume, _, warnings = read(tmp_path / "s")
    assert "tilted" in warnings[0]
    index, world = inside(volume)
    low = (
        np.maximum(0, shift * np.arange(12)) if shift > 0 else np.minimum(0, shift * np.arange(12))
    )
    j = index[..., 1] - (0 if shift > 0 else volume.data.shape[1] - 22)
    k = index[..., 2]
    known = (j >= np.ceil(low[k]) + 1) & (j <= np.floor(low[k]) + 20)
    assert known.mean() > 0.4
    step = np.abs(GRADIENT).min()
    error = np.abs(volume.data - linear(world))[known] / step
    assert error.max() < 0.02
    off_axis = volume.grid.directions.T @ volume.grid.directions
    assert_allclose(off_axis, np.eye(3), atol=1e-9)


@pytest.mark.parametrize("directions", ["LPS", "oblique"])
@pytest.mark.parametrize("left_out", [(5,), (3, 9), ()])
def test_missing_and_uneven_slices(tmp_path, directions, left_out):
    places = [2.0 * k for k in range(24) if k not in left_out]
    if not left_out:
        places[7] += 0.6
    sampled(tmp_path / "s", [(0, 0, place) for place in places], directions)
    volume, _, warnings = read(tmp_path / "s")
    assert volume.data.shape == (24, 22, 24)
    assert "unevenly" in warnings[0]
    _, world = inside(volume)
    assert (np.abs(volume.data - linear(world)) / np.abs(GRADIENT).min()).max() < 0.02


# --- many frames, and several volumes in one series ---


def truth():
    from tests.dicom_malformed_series import DATA

    return DATA


def reorder(one, order):
    size = len(one.PixelData) // SLICES
    one.PixelData = b"".join(one.PixelData[n * size : (n + 1) * size] for n in order)
    one.PerFrameFunctionalGroupsSequence = Sequence([frame(one, n) for n in order])


@pytest.mark.parametrize("order", [range(SLICES), [3, 0, 11, 7, 1, 9, 5, 2, 10, 4, 8, 6]])
def test_enhanced_frames_in_any_order(tmp_path, order):
    enhanced(lambda one: reorder(one, order))(tmp_path / "s")
    volume, _, _ = read(tmp_path / "s")
    assert_array_equal(volume.data, truth())


def in_groups(one, fill):
    """Two volumes of one half of the frames each, in the same places, told apart by `fill`."""
    half = SLICES // 2
    for n in range(SLICES):
        content = Dataset()
        fill(content, n // half, frame(one, n))
        frame(one, n).FrameContentSequence = Sequence([content])
        place = frame(one, n % half).PlanePositionSequence[0].ImagePositionPatient
        frame(one, n).PlanePositionSequence[0].ImagePositionPatient = place


def by_time(content, which, _):
    content.TemporalPositionIndex = which + 1


def by_stack(content, which, _):
    content.StackID = str(which + 1)


def by_echo(_, which, groups):
    echo = Dataset()
    echo.EffectiveEchoTime = 4.6 + 2.3 * which
    groups.MREchoSequence = Sequence([echo])


def by_kind(_, which, groups):
    kind = Dataset()
    kind.FrameType = ["ORIGINAL", "PRIMARY", "M" if which == 0 else "P", "NONE"]
    groups.MRImageFrameTypeSequence = Sequence([kind])


@pytest.mark.parametrize("fill", [by_time, by_stack, by_echo, by_kind])
def test_enhanced_volumes_are_told_apart(tmp_path, fill):
    enhanced(lambda one: in_groups(one, fill))(tmp_path / "s")
    half = SLICES // 2
    for number in (0, 1):
        volume, found, _ = read(tmp_path / "s", number)
        assert len(found.stacks) == 2
        assert_array_equal(volume.data, truth()[:, :, number * half : (number + 1) * half])


def test_an_ultrasound_volume_lies_in_its_own_frame(tmp_path):
    def change(one):
        one.SOPClassUID = "1.2.840.10008.5.1.4.1.1.6.2"
        for n in range(SLICES):
            groups, place, turned = frame(one, n), Dataset(), Dataset()
            place.ImagePositionVolume = groups.PlanePositionSequence[0].ImagePositionPatient
            turned.ImageOrientationVolume = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
            groups.PlanePositionVolumeSequence = Sequence([place])
            groups.PlaneOrientationVolumeSequence = Sequence([turned])
            del groups.PlanePositionSequence
            del groups.PlaneOrientationSequence

    enhanced(change)(tmp_path / "s")
    volume, _, _ = read(tmp_path / "s")
    assert_array_equal(volume.data, truth())


@pytest.mark.parametrize("by", ["echo-and-kind", "time", "acquisition"])
def test_classic_volumes_are_told_apart(tmp_path, by):
    data = noise("int16", 0, 3000)[:, :, :6]
    affine = affine_of(DIRECTIONS["oblique"], SPACING_MM, ORIGIN_MM)
    for n in range(4):

        def change(one, k, n=n):
            one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = f"1.2.{n + 1}.{k + 1}"
            one.InstanceNumber = 1 + n + 4 * k
            if by == "echo-and-kind":
                one.EchoTime = (4.6, 6.9)[n % 2]
                one.ImageType = ["ORIGINAL", "PRIMARY", "MP"[n // 2], "NONE"]
            elif by == "time":
                one.TemporalPositionIdentifier = n + 1
            else:
                one.AcquisitionNumber = n + 1

        write_series(tmp_path / "s" / str(n), data + 10 * n, affine, modality="MR", change=change)
    _, found, _ = read(tmp_path / "s")
    assert len(found.stacks) == 4
    means = {round(float(read(tmp_path / "s", n)[0].data.mean() - data.mean())) for n in range(4)}
    assert means == {0, 10, 20, 30}


def test_classic_volumes_are_in_the_order_of_their_times(tmp_path):
    data = noise("int16", 0, 3000)[:, :, :4]
    affine = affine_of(DIRECTIONS["oblique"], SPACING_MM, ORIGIN_MM)
    for n, trigger_ms in enumerate((-10, -2, 5, 2_000_000)):

        def change(one, k, n=n, trigger_ms=trigger_ms):
            one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = f"1.2.{n + 1}.{k + 1}"
            one.TriggerTime = trigger_ms

        write_series(tmp_path / "s" / str(n), data + 10 * n, affine, modality="MR", change=change)
    means = [round(float(read(tmp_path / "s", n)[0].data.mean() - data.mean())) for n in range(4)]
    assert means == [0, 10, 20, 30]


@pytest.mark.parametrize("series", ["0", "3", "\N{SUPERSCRIPT TWO}", "9.9"])
def test_a_volume_that_is_not_there_is_said_not_to_be(tmp_path, series):
    affine = affine_of(DIRECTIONS["LPS"], SPACING_MM, ORIGIN_MM)
    write_series(tmp_path / "s", noise("int16", 0, 3000)[:, :, :4], affine)
    with pytest.raises(SeriesNotFoundError):
        chosen(find_volumes(sorted((tmp_path / "s").iterdir())), series)
