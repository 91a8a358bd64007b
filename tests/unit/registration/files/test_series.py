"""Series of volumes, beside nibabel."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from service.errors import NotOneVolumeError, TruncatedFileError, VolumeTooLargeError
from service.registration.files.limits import Limits
from service.registration.files.series import open_series
from service.registration.files.volume_file import read_volume

AFFINE = np.array([[-2.0, 0, 0, 30], [0, 0, 1.5, -7], [0, 3.0, 0, 5], [0, 0, 0, 1]])
SHAPE = (7, 6, 5, 4)


def written(path: Path, dtype: str, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    data = np.random.default_rng(3).integers(0, 200, shape).astype(dtype)
    kind = nib.Nifti2Image if "2" in path.name else nib.Nifti1Image
    nib.save(kind(data, AFFINE), path)
    return data


@pytest.mark.parametrize("name", ["one.nii", "one.nii.gz", "two-2.nii.gz"])
@pytest.mark.parametrize("dtype", ["int16", "uint8", "float32"])
def test_each_frame_is_the_volume_that_others_see(tmp_path, name, dtype):
    data = written(tmp_path / name, dtype)
    with open_series(tmp_path / name, Limits()) as series:
        frames = list(series.frames())
    assert series.count == len(frames) == 4
    for number, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.data, data[..., number])
        np.testing.assert_allclose(frame.grid.affine, AFFINE)
        assert frame.data.dtype == dtype


def test_a_frame_is_as_if_it_were_in_a_file_of_its_own(tmp_path):
    data = written(tmp_path / "all.nii.gz", "int16")
    nib.save(nib.Nifti1Image(data[..., 2], AFFINE), tmp_path / "third.nii")
    alone = read_volume(tmp_path / "third.nii", Limits())
    with open_series(tmp_path / "all.nii.gz", Limits()) as series:
        third = list(series.frames())[2]
    np.testing.assert_array_equal(third.data, alone.data)
    assert third.grid.is_same(alone.grid)


def test_a_volume_is_a_series_of_one(tmp_path):
    written(tmp_path / "one.nii", "int16", (4, 5, 6))
    with open_series(tmp_path / "one.nii", Limits()) as series:
        assert len(list(series.frames())) == 1


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 6, 2, 3)])
def test_other_dimensions_are_no_series(tmp_path, shape):
    written(tmp_path / "x.nii", "int16", shape)
    with (
        pytest.raises(NotOneVolumeError, match="dimensions"),
        open_series(tmp_path / "x.nii", Limits()),
    ):
        pass


def test_a_file_that_ends_early_is_told(tmp_path):
    written(tmp_path / "x.nii", "int16")
    whole = (tmp_path / "x.nii").read_bytes()
    (tmp_path / "x.nii").write_bytes(whole[:-10])
    with open_series(tmp_path / "x.nii", Limits()) as series:
        frames = series.frames()
        assert [next(frames).data.shape for _ in range(3)] == [SHAPE[:3]] * 3
        with pytest.raises(TruncatedFileError) as caught:
            next(frames)
    assert caught.value.field == "series"


def test_limits_are_those_of_a_frame(tmp_path):
    written(tmp_path / "x.nii", "int16")
    with open_series(tmp_path / "x.nii", Limits(max_voxels=7 * 6 * 5)):
        pass
    with pytest.raises(VolumeTooLargeError), open_series(tmp_path / "x.nii", Limits(max_voxels=9)):
        pass


@pytest.mark.real_data
def test_a_real_heart(shared_data):
    path = shared_data / "heart_tee_4d" / "greedy_img4d.nii.gz"
    theirs = np.asarray(nib.load(path).dataobj)
    with open_series(path, Limits()) as series:
        for number, frame in enumerate(series.frames()):
            np.testing.assert_array_equal(frame.data, theirs[..., number])
    assert series.count == 7
