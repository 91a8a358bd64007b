"""Sound files are read as nibabel and SimpleITK read them: voxels, and where they lie."""

import itertools
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from numpy.testing import assert_allclose, assert_array_equal

from service.errors import NotOneVolumeError
from service.registration.files.limits import Limits
from service.registration.files.volume_file import check_header, read_volume, verify_file
from service.registration.grid import Grid

MakeGrid = Callable[..., Grid]
Make = Callable[..., bytes]

TYPES = ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def values_of_all_sizes(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    if dtype[0] == "f":
        return (rng.standard_normal(shape) * 10.0 ** rng.integers(-20, 20, shape)).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def affine_of(image: sitk.Image) -> np.ndarray:
    """Voxel indices to RAS millimetres, as SimpleITK says."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return LPS_TO_RAS @ affine


def assert_same_values(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Integers exactly; what we keep as float32, to its rounding."""
    if ours.dtype == np.float32:
        assert_array_equal(ours, theirs.astype(np.float32))
    else:
        assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("version", "order", "dtype", "scaling"),
    list(itertools.product([1, 2], "<>", TYPES, [(1, 0), (0, 0), (2.5, -7.0)])),
)
def test_every_type_version_byte_order_and_scaling(
    version: int,
    order: str,
    dtype: str,
    scaling: tuple[float, float],
    rng: np.random.Generator,
    tmp_path: Path,
) -> None:
    kind = nibabel.Nifti1Header if version == 1 else nibabel.Nifti2Header
    header = kind(endianness=order)
    data = values_of_all_sizes(rng, (7, 6, 5), dtype)
    header.set_data_dtype(np.dtype(dtype).newbyteorder(order))
    header.set_data_shape(data.shape)
    header.set_sform(np.diag([-2.0, 3, 4, 1]), 1)
    header.set_qform(np.diag([-2.0, 3, 4, 1]), 1)
    header.set_xyzt_units("mm")
    header["scl_slope"], header["scl_inter"] = scaling
    header["magic"], header["vox_offset"] = header.single_magic, header.single_vox_offset
    stored = data.astype(np.dtype(dtype).newbyteorder(order)).tobytes(order="F")
    path = tmp_path / "v.nii"
    path.write_bytes(header.structarr.tobytes() + bytes(4) + stored)
    ours = read_volume(path, Limits())
    theirs = nibabel.load(path)
    assert ours.data.dtype == np.dtype(dtype if dtype[0] != "f" and scaling[1] == 0 else "f4")
    assert ours.data.dtype.isnative
    is_scaled = scaling == (2.5, -7.0)
    assert_same_values(ours.data, theirs.get_fdata() if is_scaled else np.asarray(theirs.dataobj))
    assert_allclose(ours.grid.affine, theirs.affine, atol=1e-6)
    found = verify_file(path, Limits())
    assert (found.format, found.byte_order) == (
        f"nifti-{version}",
        {"<": "little", ">": "big"}[order],
    )


@pytest.mark.parametrize("codes", [(1, 1), (1, 0), (0, 2), (2, 1)])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_every_orientation_by_either_form(
    codes: tuple[int, int], suffix: str, orientation: str, make_grid: MakeGrid, tmp_path: Path
) -> None:
    grid = make_grid(orientation)
    data = np.arange(grid.voxel_count, dtype=np.int32).reshape(grid.shape)
    image = nibabel.Nifti1Image(data, grid.affine)
    image.set_qform(grid.affine, codes[0])
    image.set_sform(grid.affine, codes[1])
    image.header.set_xyzt_units("mm", "sec")
    path = tmp_path / f"v{suffix}"
    nibabel.save(image, path)
    warnings: list[str] = []
    ours = read_volume(path, Limits(), warnings=warnings)
    itk = sitk.ReadImage(str(path))
    assert warnings == []
    assert_array_equal(ours.data, data)
    assert_array_equal(ours.data, sitk.GetArrayFromImage(itk).T)
    assert_allclose(ours.grid.affine, nibabel.load(path).affine, atol=1e-5)
    corners = np.array(list(itertools.product((0, 30), (0, 23), (0, 18))))
    theirs = corners @ affine_of(itk)[:3, :3].T + affine_of(itk)[:3, 3]
    assert_allclose(ours.grid.to_world(corners), theirs, atol=1e-3)  # mm; ITK rounds to float32


@pytest.mark.parametrize("is_compressed", [False, True])
@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_every_orientation_of_nrrd_and_metaimage(
    suffix: str,
    is_compressed: bool,
    orientation: str,
    make_grid: MakeGrid,
    rng: np.random.Generator,
    tmp_path: Path,
) -> None:
    grid = make_grid(orientation)
    data = rng.integers(-3000, 3000, grid.shape, dtype=np.int16)
    lps = LPS_TO_RAS @ grid.affine
    image = sitk.GetImageFromArray(data.T)
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetDirection((lps[:3, :3] / grid.spacing_mm).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    sitk.WriteImage(image, str(tmp_path / f"v{suffix}"), useCompression=is_compressed)
    path = (tmp_path / f"v{suffix}").rename(tmp_path / "no-telling-name")
    ours = read_volume(path, Limits())
    assert_array_equal(ours.data, data)
    assert_allclose(ours.grid.affine, grid.affine, atol=1e-6)
    assert verify_file(path, Limits()).encoding == {
        ".nrrd": "gzip" if is_compressed else "raw",
        ".mha": "zlib" if is_compressed else "raw",
    }[suffix]  # fmt: skip


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_every_type_of_nrrd_and_metaimage(
    suffix: str, dtype: str, rng: np.random.Generator, tmp_path: Path
) -> None:
    data = values_of_all_sizes(rng, (7, 6, 5), dtype)
    image = sitk.GetImageFromArray(data.T)
    path = tmp_path / f"v{suffix}"
    sitk.WriteImage(image, str(path))
    assert_same_values(read_volume(path, Limits()).data, data)


NRRD_VARIANTS = {
    "ras": {"space": "RAS", "space_directions": "(-2,0,0) (0,3,0) (0,0,4)",
            "space_origin": "(10,20,30)"},
    "las": {"space": "left-anterior-superior", "space_directions": "(2,0,0) (0,3,0) (0,0,4)",
            "space_origin": "(-10,20,30)"},
    "spaces-in-vectors": {"space_directions": "( 2, 0, 0 )  ( 0, -3, 0 ) ( 0, 0, 4 )"},
    "gzip": {"encoding": "gzip"},
    "kinds": {"kinds": "domain domain domain"},
    "units": {"space_units": '"mm" "mm" "mm"'},
}  # fmt: skip


@pytest.mark.parametrize("case", NRRD_VARIANTS)
def test_hand_made_nrrd_is_what_simpleitk_reads(
    case: str, made: dict[str, Make], tmp_path: Path
) -> None:
    path = tmp_path / "v.nrrd"
    path.write_bytes(made["nrrd"](**NRRD_VARIANTS[case]))
    ours, itk = read_volume(path, Limits()), sitk.ReadImage(str(path))
    assert_array_equal(ours.data, sitk.GetArrayFromImage(itk).T)
    assert_array_equal(ours.data.ravel(order="F"), np.arange(60))
    assert_allclose(ours.grid.affine, affine_of(itk), atol=1e-9)
    assert_allclose(ours.grid.affine, [[-2, 0, 0, 10], [0, 3, 0, 20], [0, 0, 4, 30], [0, 0, 0, 1]])


@pytest.mark.parametrize("order", ["False", "True"])
def test_hand_made_metaimage_is_what_simpleitk_reads(
    order: str, made: dict[str, Make], tmp_path: Path
) -> None:
    data = np.arange(60, dtype=">i2" if order == "True" else "<i2").tobytes()
    matrix = "0 1 0 -1 0 0 0 0 1"
    path = tmp_path / "v.mha"
    content = made["mha"](data=data, BinaryDataByteOrderMSB=order, TransformMatrix=matrix)
    path.write_bytes(content)
    ours, itk = read_volume(path, Limits()), sitk.ReadImage(str(path))
    assert_array_equal(ours.data, sitk.GetArrayFromImage(itk).T)
    assert_array_equal(ours.data.ravel(order="F"), np.arange(60))
    assert_allclose(ours.grid.affine, affine_of(itk), atol=1e-9)


def test_units_are_converted_as_itk_converts_them(made: dict[str, Make], tmp_path: Path) -> None:
    path = tmp_path / "v.nii"
    metres = (-2e-3, 0, 0, 1e-2, 0, 3e-3, 0, 2e-2, 0, 0, 4e-3, 3e-2)
    path.write_bytes(
        made["nifti"](
            xyzt_units=1 + 8, srow=metres, qform_code=0, pixdim=(-1, 2e-3, 3e-3, 4e-3, 0, 0, 0, 0)
        )
    )
    warnings: list[str] = []
    ours = read_volume(path, Limits(), warnings=warnings)
    assert_allclose(ours.grid.spacing_mm, (2, 3, 4), rtol=1e-6)
    assert_allclose(ours.grid.spacing_mm, sitk.ReadImage(str(path)).GetSpacing(), rtol=1e-5)
    assert len(warnings) == 1
    assert "metres" in warnings[0]


ODDITIES = {
    "no-unit": {"xyzt_units": 0},
    "negative-spacing": {"pixdim": (-1, -2, 3, 4, 0, 0, 0, 0)},
    "qfac-of-3": {"pixdim": (-3, 2, 3, 4, 0, 0, 0, 0), "sform_code": 0},
    "slope-0-with-intercept": {"scl_slope": 0, "scl_inter": 5},
    "sform-in-another-space": {
        "sform_code": 4, "srow": (-1, 0, 0, 90, 0, 1, 0, -126, 0, 0, 1, -72)
    },
}  # fmt: skip


@pytest.mark.parametrize("case", ODDITIES)
def test_an_oddity_is_mended_with_a_warning(
    case: str, made: dict[str, Make], tmp_path: Path
) -> None:
    path = tmp_path / "v.nii"
    path.write_bytes(made["nifti"](**ODDITIES[case]))
    warnings: list[str] = []
    ours = read_volume(path, Limits(), warnings=warnings)
    assert warnings
    assert list(check_header(path, Limits()).warnings) == warnings
    assert_array_equal(ours.data.ravel(order="F"), np.arange(60))
    if "pixdim" not in ODDITIES[case]:  # nibabel refuses to reckon with these
        assert_allclose(ours.grid.affine, nibabel.load(path).affine, atol=1e-5)


@pytest.mark.parametrize("shear", [2e-4, 9e-4])
def test_axes_a_little_off_are_put_right_about_the_centre(
    shear: float, made: dict[str, Make], tmp_path: Path
) -> None:
    path = tmp_path / "v.nii"
    srow = (-2, 3 * shear, 0, 10, 0, 3, 0, 20, 0, 0, 4, 30)
    path.write_bytes(made["nifti"](srow=srow, qform_code=0))
    warnings: list[str] = []
    ours = read_volume(path, Limits(), warnings=warnings)
    assert "right angles" in warnings[0]
    assert ours.grid.shear < 1e-12
    theirs = Grid(ours.grid.shape, nibabel.load(path).affine)
    assert_allclose(ours.grid.corners_mm(), theirs.corners_mm(), atol=6 * shear)
    assert_allclose(ours.grid.centre_mm, theirs.centre_mm, atol=1e-6)


def test_a_few_voxels_that_are_not_finite_become_zero(
    made: dict[str, Make], tmp_path: Path
) -> None:
    values = np.ones(20 * 20 * 20, dtype="<f4")
    values[[5, 77, 4000]] = (np.nan, np.inf, -np.inf)
    path = tmp_path / "v.nii"
    path.write_bytes(
        made["nifti"](
            dim=(3, 20, 20, 20, 1, 1, 1, 1), datatype=16, bitpix=32, data=values.tobytes()
        )
    )
    warnings: list[str] = []
    ours = read_volume(path, Limits(), warnings=warnings)
    assert ours.data.sum() == 8000 - 3
    assert warnings == ["3 voxels were NaN or infinite and were set to 0."]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
def test_extensions_are_passed_over(
    version: int, order: str, made: dict[str, Make], tmp_path: Path
) -> None:
    endian = "little" if order == "<" else "big"
    one = (32).to_bytes(4, endian) + (6).to_bytes(4, endian) + b"Doe^Jane".ljust(24)
    path = tmp_path / "v.nii"
    path.write_bytes(made["nifti"](version=version, order=order, ext=one * 2 + bytes(16)))
    ours = read_volume(path, Limits())
    assert_array_equal(ours.data.ravel(order="F"), np.arange(60))


def test_trailing_axes_of_one_are_dropped(made: dict[str, Make], tmp_path: Path) -> None:
    path = tmp_path / "v.nii"
    path.write_bytes(made["nifti"](dim=(7, 5, 4, 3, 1, 1, 1, 1)))
    assert read_volume(path, Limits()).data.shape == (5, 4, 3)


@pytest.mark.real_data
def test_every_real_nifti_file_is_read_as_nibabel_reads_it(shared_data: Path) -> None:
    refused, read = set[str](), 0
    for path in sorted(shared_data.rglob("*.nii*")):
        theirs = nibabel.load(path)
        if theirs.ndim != 3:
            with pytest.raises(NotOneVolumeError):
                check_header(path, Limits())
            refused.add(path.parent.relative_to(shared_data).parts[0])
            continue
        ours = read_volume(path, Limits())
        assert_same_values(ours.data, np.asanyarray(theirs.dataobj))
        assert_allclose(ours.grid.affine, theirs.affine, atol=1e-4)
        read += 1
    assert read > 100
    assert refused == {
        "dicom_mr_epi_mosaic_orient", "heart_tee_4d", "prostate_mr_trus", "slices_2d", "spine_sct",
        "transforms_fsl",
    }  # fmt: skip


@pytest.mark.real_data
def test_every_real_nrrd_and_metaimage_is_read_as_simpleitk_reads_it(shared_data: Path) -> None:
    found = sorted([*shared_data.rglob("*.mha"), *shared_data.rglob("*.nrrd")])
    refused = set[str]()
    for path in found:
        itk = sitk.ReadImage(str(path))
        if itk.GetDimension() != 3 or itk.GetNumberOfComponentsPerPixel() != 1:
            with pytest.raises(NotOneVolumeError):
                read_volume(path, Limits())
            refused.add(path.parent.name)
            continue
        ours = read_volume(path, Limits())
        assert_same_values(ours.data, sitk.GetArrayViewFromImage(itk).T)
        assert_allclose(ours.grid.affine, affine_of(itk), atol=1e-9)
    assert len(found) > 15
    assert refused == {"slices_2d", "transforms_cmtk"}
