"""Pairs: what the rows of `pairs.csv` and the other sets say."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from benchmarks.comparison.cases import few, listed
from benchmarks.comparison.more_cases import MORE

HEADER = "category,fixed,moving,fixed_ref,moving_ref\n"
LANDMARKS = "fx,fy,fz,mx,my,mz\n1,2,3,4,5,6\n7,8,9,10,11,12\n"


def write(folder: Path, rows: str, **files: str) -> Path:
    (folder / "pairs.csv").write_text(HEADER + rows)
    for name, text in files.items():
        (folder / f"{name}.csv").write_text(text)
    return folder


def test_rows_of_the_same_images_make_one_case(tmp_path: Path) -> None:
    rows = "liver,liver/d/a.mha,liver/d/b.mha,in_liver.csv,(same file)\n"
    rows += "liver,liver/d/a.mha,liver/d/b.mha,in_outside.csv,(same file)\n"
    rows += "brain,brain/1_SS.nii.gz,brain/2_SS.nii.gz,1_glm.nii.gz,2_glm.nii.gz\n"
    data = write(tmp_path, rows, in_liver=LANDMARKS, in_outside=LANDMARKS)
    (liver,) = listed(data, "liver", tmp_path)
    assert liver.name == "d a<-b"
    assert liver.measures == ("TRE, mm, liver", "TRE, mm, outside")
    np.testing.assert_array_equal(liver.landmarks[0].moving, [[4, 5, 6], [10, 11, 12]])
    (brain,) = listed(data, "brain", tmp_path)
    assert brain.name == "1<-2"
    assert brain.measures == ("Dice",)
    assert brain.labels == (data / "1_glm.nii.gz", data / "2_glm.nii.gz")


def test_a_list_of_landmarks_alone_needs_no_name(tmp_path: Path) -> None:
    rows = "lung,lung/a.mha,lung/b.nii.gz,p_dev26.csv,(same file)\n"
    (lung,) = listed(write(tmp_path, rows, p_dev26=LANDMARKS), "lung", tmp_path)
    assert lung.measures == ("TRE, mm",)
    assert few([lung, lung], 1) == [lung]


@pytest.mark.real_data
def test_the_frame_with_the_wrong_spacing_is_mended(shared_data: Path, tmp_path: Path) -> None:
    first = listed(shared_data, "liver_4dmri_eth", tmp_path)[0]
    spacings = [SimpleITK.ReadImage(str(p)).GetSpacing()[2] for p in (first.fixed, first.moving)]
    assert spacings == pytest.approx([4.0, 4.0])


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "measures"),
    [
        ("prostate_mr_trus", ("Dice", "TRE, mm")),
        ("brain_ms_longitudinal", ("TRE, mm",)),
        ("heart_tee_4d", ("Dice",)),
    ],
)
def test_the_other_sets_have_what_they_are_measured_by(
    name: str, measures: tuple[str, ...], shared_data: Path, tmp_path: Path
) -> None:
    cases = MORE[name](shared_data, tmp_path)
    assert cases[0].measures == measures
    assert len({case.name for case in cases}) == len(cases)
    for case in cases:
        assert case.fixed.is_file()
        assert case.moving.is_file()
        for landmarks in case.landmarks:
            assert len(landmarks.fixed) == len(landmarks.moving) > 0
            apart = np.linalg.norm(landmarks.fixed - landmarks.moving, axis=1)
            assert np.isfinite(apart).all()
            assert apart.max() < 100
