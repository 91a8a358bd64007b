"""The field file's bytes, and the fields that other tools would misread."""

import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from numpy.testing import assert_allclose, assert_array_equal

from service.errors import InvalidFileError, ShearedAffineError
from service.registration.fields import DisplacementField
from service.registration.files import field_file
from service.registration.files.field_file import read_field, write_field
from service.registration.files.limits import Limits
from service.registration.grid import Grid

MakeGrid = Callable[..., Grid]
Make = Callable[..., bytes]
FIELD = {"dim": (5, 5, 4, 3, 1, 3, 1, 1), "datatype": 16, "bitpix": 32, "intent_code": 1007}
VECTORS = np.random.default_rng(7).standard_normal((5, 4, 3, 1, 3)).astype("<f4")


def field_bytes(made: dict[str, Make], **fields: Any) -> bytes:
    order = fields.get("order", "<")
    kind = order + ("f8" if fields.get("datatype") == 64 else "f4")
    sound = FIELD | {"data": VECTORS.astype(kind).tobytes(order="F")}
    return made["nifti"](**(sound | fields))


def test_the_file_follows_the_recipe_that_itk_and_ants_read(
    orientation: str, make_grid: MakeGrid, rng: np.random.Generator, tmp_path: Path
) -> None:
    grid = make_grid(orientation)
    vectors = rng.standard_normal((*grid.shape, 3)).astype(np.float32)
    write_field(tmp_path / "ddf.nii.gz", DisplacementField(vectors, grid))
    image = nibabel.load(tmp_path / "ddf.nii.gz")
    header = image.header
    assert header["dim"].tolist() == [5, *grid.shape, 1, 3, 1, 1]
    assert header.get_data_dtype() == np.float32
    assert int(header["intent_code"]) == 1007
    assert int(header["qform_code"]) == int(header["sform_code"]) == 1
    assert header.get_xyzt_units()[0] == "mm"
    assert_allclose(image.get_sform(), grid.affine, atol=1e-5)
    assert_allclose(image.get_qform(), grid.affine, atol=1e-4)
    assert_array_equal(np.asarray(image.dataobj)[:, :, :, 0], vectors * np.float32([-1, -1, 1]))
    for text in ("descrip", "aux_file", "db_name", "intent_name"):
        assert header[text].tobytes().strip(b"\0") == b""


@pytest.mark.parametrize("changes", [{}, {"order": ">"}, {"datatype": 64, "bitpix": 64}])
def test_lps_vectors_of_intent_1007_become_ras(
    changes: dict[str, Any], made: dict[str, Make], tmp_path: Path
) -> None:
    (tmp_path / "f").write_bytes(field_bytes(made, **changes))
    field = read_field(tmp_path / "f", Limits())
    assert_array_equal(field.vectors_mm, VECTORS[:, :, :, 0] * np.float32([-1, -1, 1]))
    assert field.vectors_mm.flags.c_contiguous


@pytest.mark.parametrize("intent", [1006, 1007])
def test_either_intent_moves_points_as_itk_does(
    intent: int, made: dict[str, Make], rng: np.random.Generator, tmp_path: Path
) -> None:
    path = tmp_path / "f.nii"
    path.write_bytes(field_bytes(made, intent_code=intent))
    ours = read_field(path, Limits())
    theirs = sitk.DisplacementFieldTransform(sitk.ReadImage(str(path), sitk.sitkVectorFloat64))
    points = ours.grid.to_world(rng.uniform(0, (4, 3, 2), (100, 3)))
    lps = np.array([-1.0, -1.0, 1.0])
    moved = np.array([theirs.TransformPoint(point) for point in points * lps]) * lps
    assert_allclose(ours.move(points), moved, atol=1e-5)


NAN_VECTORS = np.full((5, 4, 3, 1, 3), np.nan, "<f4").tobytes()
SLANTED = (-2, 0.03, 0, 10, 0, 3, 0, 20, 0, 0, 4, 30)

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "four-dimensions": ({"dim": (4, 5, 4, 3, 3, 1, 1, 1)}, "bad-transform"),
    "a-volume": ({"dim": (3, 5, 4, 3, 1, 1, 1, 1)}, "bad-transform"),
    "two-components": ({"dim": (5, 5, 4, 3, 1, 2, 1, 1)}, "bad-transform"),
    "over-time": ({"dim": (5, 5, 4, 3, 2, 3, 1, 1)}, "bad-transform"),
    "no-intent": ({"intent_code": 0}, "bad-transform"),
    "fsl-intent": ({"intent_code": 2006}, "bad-transform"),
    "whole-numbers": ({"datatype": 8}, "bad-transform"),
    "scaled": ({"scl_slope": 2}, "bad-transform"),
    "in-metres": ({"xyzt_units": 1}, "bad-transform"),
    "in-microns": ({"xyzt_units": 3}, "bad-transform"),
    "not-finite": ({"data": NAN_VECTORS}, "bad-transform"),
    "sheared": ({"srow": SLANTED, "qform_code": 0}, "sheared-affine"),
    "no-orientation": ({"qform_code": 0, "sform_code": 0}, "no-orientation"),
    "too-large": ({"dim": (5, 2000, 2000, 2000, 1, 3, 1, 1)}, "volume-too-large"),
    "axis-of-0": ({"dim": (5, 0, 4, 3, 1, 3, 1, 1)}, "bad-dimensions"),
    "truncated": ({"data": VECTORS.tobytes()[:-1]}, "truncated-file"),
    "trailing": ({"data": VECTORS.tobytes() + bytes(1025)}, "trailing-data"),
    "offset-0": ({"vox_offset": 0}, "bad-offset"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_other_tools_would_misread_is_refused(
    case: str,
    made: dict[str, Make],
    tmp_path: Path,
    says_nothing_private: Callable[[InvalidFileError], None],
) -> None:
    fields, slug = BAD[case]
    (tmp_path / "f").write_bytes(field_bytes(made, **fields))
    with pytest.raises(InvalidFileError) as refusal:
        read_field(tmp_path / "f", Limits(), "moving")
    assert refusal.value.slug == slug
    says_nothing_private(refusal.value)


def test_another_format_is_no_field(made: dict[str, Make], tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(made["nrrd"]())
    with pytest.raises(InvalidFileError) as refusal:
        read_field(tmp_path / "f", Limits())
    assert (refusal.value.slug, refusal.value.field) == ("unsupported-format", "ddf")


def test_a_field_on_slanted_axes_is_not_written(tmp_path: Path) -> None:
    affine = np.eye(4)
    affine[0, 1] = 2e-4
    field = DisplacementField.zero(Grid((5, 4, 3), affine))
    with pytest.raises(ShearedAffineError):
        write_field(tmp_path / "f.nii.gz", field)


@pytest.mark.real_data
def test_a_real_warp_of_another_tool_moves_points_as_itk_says(
    shared_data: Path, rng: np.random.Generator
) -> None:
    path = shared_data / "spine_sct" / "t2" / "warp_template2anat.nii.gz"
    ours = read_field(path, Limits())
    theirs = sitk.DisplacementFieldTransform(sitk.ReadImage(str(path), sitk.sitkVectorFloat64))
    points = ours.grid.to_world(rng.uniform(0, np.array(ours.grid.shape) - 1, (300, 3)))
    lps = np.array([-1.0, -1.0, 1.0])
    moved = np.array([theirs.TransformPoint(point) for point in points * lps]) * lps
    assert_allclose(ours.move(points), moved, atol=1e-4)


def test_a_large_field_is_written_a_part_at_a_time_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = Grid((5, 4, 3), np.diag([2.0, 2.0, 3.0, 1.0]))
    vectors = np.random.default_rng(1).normal(size=(5, 4, 3, 3)).astype(np.float32)
    write_field(tmp_path / "whole.nii.gz", DisplacementField(vectors, grid))
    monkeypatch.setattr(field_file, "AT_ONCE_BYTES", 1)
    digest = write_field(tmp_path / "parts.nii", DisplacementField(vectors, grid))
    whole = gzip.decompress((tmp_path / "whole.nii.gz").read_bytes())
    assert (tmp_path / "parts.nii").read_bytes() == whole
    assert digest == hashlib.sha256(whole).hexdigest()
