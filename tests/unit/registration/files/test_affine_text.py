"""Affine transforms in every dialect, against SimpleITK, and what is no affine transform."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from service.errors import BadTransformError
from service.registration.fields import Affine
from service.registration.files.affine_text import read_affine, write_affine

MATRIX = np.array(
    [[0.9, -0.1, 0.02, 12.5], [0.1, 1.1, -0.3, -7.25], [0.0, 0.3, 0.95, 1 / 3], [0, 0, 0, 1]]
)
POINTS = np.array([[0.0, 0, 0], [100, 0, 0], [0, 100, 0], [0, 0, 100], [-31, 77, 12]])
LPS = np.array([-1.0, -1.0, 1.0])
CENTRE = (11.0, -22.0, 33.0)


def moved_by(transform: sitk.Transform) -> np.ndarray:
    """Where SimpleITK takes the points, told in RAS."""
    return np.array([transform.TransformPoint(point) for point in POINTS * LPS]) * LPS


def test_an_affine_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    write_affine(tmp_path / "affine.txt", Affine(MATRIX))
    assert_array_equal(read_affine(tmp_path / "affine.txt").matrix, MATRIX)
    assert_array_equal(np.loadtxt(tmp_path / "affine.txt"), MATRIX)
    assert "RAS" in (tmp_path / "affine.txt").read_text().splitlines()[0]


def affine() -> sitk.Transform:
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(MATRIX[:3, :3].ravel().tolist())
    transform.SetTranslation(MATRIX[:3, 3].tolist())
    transform.SetCenter(CENTRE)
    return transform


def euler(is_zyx: bool = False) -> sitk.Transform:
    transform = sitk.Euler3DTransform(CENTRE, 0.3, -0.5, 0.7, (1.0, 2.0, -3.0))
    transform.SetComputeZYX(is_zyx)
    return transform


def similarity() -> sitk.Transform:
    transform = sitk.Similarity3DTransform()
    transform.SetParameters((0.1, -0.2, 0.3, 4.0, 5.0, 6.0, 1.25))
    transform.SetCenter(CENTRE)
    return transform


ITK: dict[str, Callable[[], sitk.Transform]] = {
    "affine": affine,
    "euler": euler,
    "euler-zyx": lambda: euler(is_zyx=True),
    "versor": lambda: sitk.VersorRigid3DTransform((1.0, 2.0, -2.0), 0.8, (3.0, 4.0, 5.0), CENTRE),
    "similarity": similarity,
    "translation": lambda: sitk.TranslationTransform(3, (4.0, -5.0, 6.0)),
    "composite": lambda: sitk.CompositeTransform([affine(), euler(), similarity()]),
}


@pytest.mark.parametrize("kind", ITK)
@pytest.mark.parametrize("suffix", [".tfm", ".mat"])
def test_itk_transforms_move_points_as_simpleitk_does(
    kind: str, suffix: str, tmp_path: Path
) -> None:
    if (kind, suffix) == ("composite", ".mat"):
        pytest.skip("ITK does not write composites to .mat files")
    path = tmp_path / f"t{suffix}"
    sitk.WriteTransform(ITK[kind](), str(path))
    theirs = moved_by(sitk.ReadTransform(str(path)))
    path = path.rename(tmp_path / "no-telling-name")
    assert_allclose(read_affine(path).move(POINTS), theirs, atol=1e-9)


def test_a_mat_file_as_ants_writes_it(tmp_path: Path) -> None:
    """Made by hand: MATLAB level 4, parameters of MatrixOffsetTransformBase, then the centre."""
    parameters = [*MATRIX[:3, :3].ravel(), *MATRIX[:3, 3]]
    content = b""
    for name, values in (("AffineTransform_double_3_3", parameters), ("fixed", CENTRE)):
        content += struct.pack("<5i", 0, len(values), 1, 0, len(name) + 1) + name.encode() + b"\0"
        content += struct.pack(f"<{len(values)}d", *values)
    path = tmp_path / "0GenericAffine.mat"
    path.write_bytes(content)
    theirs = moved_by(sitk.ReadTransform(str(path)))
    assert_allclose(read_affine(path).move(POINTS), theirs, atol=1e-9)
    for end in (25, 60, len(content) - 1, len(content) - 30):
        path.write_bytes(content[:end])
        with pytest.raises(BadTransformError):
            read_affine(path)


@pytest.mark.real_data
def test_real_itk_transforms_move_points_as_simpleitk_does(shared_data: Path) -> None:
    paths = sorted((shared_data / "transforms_nitransforms").rglob("*.tfm"))
    read = 0
    for path in paths:
        if path.read_text().count("Transform:") > 1:  # a list over time, not one transform
            with pytest.raises(BadTransformError, match="composite"):
                read_affine(path)
            continue
        theirs = moved_by(sitk.ReadTransform(str(path)))
        assert_allclose(read_affine(path).move(POINTS), theirs, atol=1e-9)
        read += 1
    assert read >= 8


ITK_HEAD = "#Insight Transform File V1.0\n#Transform 0\n"
IDENTITY = "1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n"
OURS = "# RAS, fixed to moving\n"

BAD: dict[str, str] = {
    "empty": "",
    "a-text": "Doe^Jane\n",
    "bare-matrix-as-of-fsl": IDENTITY,
    "three-rows": OURS + IDENTITY[8:],
    "five-numbers": OURS + IDENTITY.replace("\n", " 7\n"),
    "a-word": OURS + IDENTITY.replace("1", "one"),
    "nan": OURS + IDENTITY.replace("1 0 0 0", "nan 0 0 0"),
    "singular": OURS + "1 0 0 0\n1 0 0 0\n0 0 1 0\n0 0 0 1\n",
    "projective": OURS + "1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 1 1\n",
    "itk-without-transform": ITK_HEAD,
    "itk-spline": ITK_HEAD + "Transform: BSplineTransform_double_3_3\nParameters: 1 2 3\n",
    "itk-2d": ITK_HEAD + "Transform: AffineTransform_double_2_2\nParameters: 1 0 0 1 0 0\n",
    "itk-no-parameters": ITK_HEAD + "Transform: AffineTransform_double_3_3\n",
    "itk-11-parameters": ITK_HEAD
    + "Transform: AffineTransform_double_3_3\nParameters: 1 0 0 0 1 0 0 0 1 0 0\n",
    "itk-nan": ITK_HEAD
    + "Transform: AffineTransform_double_3_3\nParameters: nan 0 0 0 1 0 0 0 1 0 0 0\n",
    "itk-singular": ITK_HEAD
    + "Transform: AffineTransform_double_3_3\nParameters: 0 0 0 0 1 0 0 0 1 0 0 0\n",
    "itk-versor-too-long": ITK_HEAD
    + "Transform: VersorRigid3DTransform_double_3_3\nParameters: 1 1 1 0 0 0\n",
    "itk-two": ITK_HEAD
    + "Transform: TranslationTransform_double_3_3\nParameters: 1 1 1\n" * 2,
    "itk-a-composite-of-nothing": ITK_HEAD + "Transform: CompositeTransform_double_3_3\n",
    "itk-huge": ITK_HEAD
    + "Transform: AffineTransform_double_3_3\n"
    + "Parameters: 1e308 1e308 0 1e308 1 0 0 0 1 1e308 0 0\nFixedParameters: 1e308 1e308 1\n",
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_affine_transform_is_refused(case: str, tmp_path: Path) -> None:
    path = tmp_path / "Doe^Jane.txt"
    path.write_text(BAD[case])
    with pytest.raises(BadTransformError) as refusal:
        read_affine(path)
    assert refusal.value.field == "initial_transform"
    assert refusal.value.detail.endswith(".")
    assert "Doe" not in refusal.value.detail


NUMBERS = st.lists(
    st.one_of(st.floats(), st.sampled_from([1e308, -1e308, 1e-320, 0.0, 1.0])), max_size=16
)


@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    kind=st.sampled_from(["Affine", "Euler3D", "VersorRigid3D", "Similarity3D", "Translation"]),
    parameters=NUMBERS,
    fixed=NUMBERS,
    junk=st.binary(max_size=200),
)
def test_whatever_is_sent_the_answer_is_an_affine_or_our_error(
    kind: str, parameters: list[float], fixed: list[float], junk: bytes, tmp_path: Path
) -> None:
    itk = f"{ITK_HEAD}Transform: {kind}Transform_double_3_3\nParameters: "
    itk += " ".join(map(str, parameters)) + "\nFixedParameters: " + " ".join(map(str, fixed))
    rows = [" ".join(map(str, parameters[at : at + 4])) for at in (0, 4, 8, 12)]
    name = b"AffineTransform_double_3_3\0"
    mat = struct.pack("<5i", 0, 12, 1, 0, len(name)) + name + junk
    for content in (itk.encode(), (OURS + "\n".join(rows)).encode(), mat, junk):
        (tmp_path / "t").write_bytes(content)
        try:
            found = read_affine(tmp_path / "t")
        except BadTransformError:
            continue
        assert np.isfinite(found.matrix).all()
