"""What is written is what nibabel and we read, on every grid."""

import itertools
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from service.registration.files.limits import Limits
from service.registration.files.volume_file import read_label_map, read_volume, write_volume
from service.registration.grid import Grid
from service.registration.volume import Volume

MakeGrid = Callable[..., Grid]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_written_volume_is_read_alike_by_nibabel_and_by_us(
    suffix: str, orientation: str, make_grid: MakeGrid, rng: np.random.Generator, tmp_path: Path
) -> None:
    grid = make_grid(orientation)
    volume = Volume(rng.integers(-2000, 2000, grid.shape, dtype=np.int16), grid)
    path = tmp_path / f"v{suffix}"
    write_volume(path, volume)
    theirs, warnings = nibabel.load(path), list[str]()
    ours = read_volume(path, Limits(), warnings=warnings)
    assert_array_equal(np.asanyarray(theirs.dataobj), volume.data)
    assert_array_equal(ours.data, volume.data)
    assert ours.data.dtype == np.int16
    assert ours.data.flags.writeable
    assert_allclose(theirs.get_sform(), grid.affine, atol=1e-5)
    assert_allclose(theirs.get_qform(), grid.affine, atol=1e-4)
    assert theirs.header["sform_code"] == theirs.header["qform_code"] == 1
    assert theirs.header.get_xyzt_units()[0] == "mm"
    assert ours.grid.is_same(grid)
    assert warnings == []


def all_axes() -> list[np.ndarray]:
    """The 48 ways to lay the axes along the world's, and 40 of any kind."""
    signs = [np.diag(sign) for sign in itertools.product((1.0, -1.0), repeat=3)]
    orders = [np.eye(3)[list(order)] for order in itertools.permutations(range(3))]
    square = np.random.default_rng(3).standard_normal((40, 3, 3))
    return [sign @ order for sign in signs for order in orders] + list(np.linalg.qr(square)[0])


def test_either_form_holds_every_orientation(tmp_path: Path) -> None:
    path = tmp_path / "v.nii"
    for axes in all_axes():
        affine = np.eye(4)
        affine[:3, :3] = axes * (0.7, 1.3, 4.0)
        affine[:3, 3] = (-12.5, 7.25, 31.0)
        volume = Volume(np.zeros((5, 4, 3), np.uint8), Grid((5, 4, 3), affine))
        write_volume(path, volume)
        theirs = nibabel.load(path)
        assert_allclose(theirs.get_sform(), affine, atol=1e-5)
        assert_allclose(theirs.get_qform(), affine, atol=1e-4)  # float32 near a half turn
        assert_allclose(read_volume(path, Limits()).grid.affine, affine, atol=1e-5)
        without_sform = bytearray(path.read_bytes())
        without_sform[254:256] = b"\0\0"
        path.write_bytes(without_sform)
        assert_allclose(read_volume(path, Limits()).grid.affine, affine, atol=1e-4)


@pytest.mark.parametrize(
    "dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", "bool"]
)
def test_every_type_comes_back(
    dtype: str, make_grid: MakeGrid, rng: np.random.Generator, tmp_path: Path
) -> None:
    grid = make_grid()
    data = rng.integers(0, 2, grid.shape).astype(dtype)
    write_volume(tmp_path / "v.nii.gz", Volume(data, grid))
    ours = read_volume(tmp_path / "v.nii.gz", Limits())
    assert_array_equal(ours.data, data)
    assert ours.data.dtype == {"f8": np.float32, "bool": np.uint8}.get(dtype, np.dtype(dtype))


def test_the_same_volume_gives_the_same_bytes(
    make_grid: MakeGrid, rng: np.random.Generator, tmp_path: Path
) -> None:
    grid = make_grid(shape=(130, 120, 110))  # several blocks, on several threads
    data = rng.integers(0, 255, grid.shape).astype(np.int16)
    for name in ("one.nii.gz", "another.nii.gz"):
        write_volume(tmp_path / name, Volume(data, grid))
    assert (tmp_path / "one.nii.gz").read_bytes() == (tmp_path / "another.nii.gz").read_bytes()
    fortran = Volume(np.asfortranarray(data), grid)
    write_volume(tmp_path / "fortran.nii.gz", fortran)
    assert (tmp_path / "one.nii.gz").read_bytes() == (tmp_path / "fortran.nii.gz").read_bytes()
    assert_array_equal(np.asanyarray(nibabel.load(tmp_path / "one.nii.gz").dataobj), data)


def test_label_maps_take_the_smallest_type(make_grid: MakeGrid, tmp_path: Path) -> None:
    grid = make_grid()
    data = np.zeros(grid.shape, np.float64)
    data[3, 4, 5] = 300
    write_volume(tmp_path / "v.nii.gz", Volume(data, grid))
    labels = read_label_map(tmp_path / "v.nii.gz", Limits())
    assert labels.data.dtype == np.uint16
    assert_array_equal(labels.data, data)
