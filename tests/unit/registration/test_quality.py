"""The verdict: planted failures are found, good registrations pass, in every kind of evidence."""

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from service.registration.evidence import Evidence
from service.registration.quality import ADVICE, judge

ROOT = Path(__file__).parents[3]

# A brain pair that went well.
GOOD = Evidence(
    ncc_before=0.70,
    ncc_after=0.93,
    lncc_before=0.20,
    lncc_after=0.48,
    nmi_before=1.05,
    nmi_after=1.15,
    overlap_fraction=0.97,
    folding_fraction=0.0,
    non_diffeomorphic_volume=1e-5,
    sdlogj=0.25,
    max_deformation_mm=14.0,
    field_of_view_mm=200.0,
    inverse_consistency_mm=0.05,
    affine_volume_change=1.1,
    affine_scales=(0.95, 1.08),
    affine_fit=0.30,
    turned_fit=0.15,
    mirrored_fit=0.29,
    affine_ncc=0.96,
    mirrored_ncc=0.95,
    structure_in_view=1.0,
    structure_met=0.97,
    fixed_labels_fit=0.9,
    fixed_labels_fit_moved=0.7,
    moving_labels_fit=0.9,
    moving_labels_fit_moved=0.7,
    mean_dice_before=0.30,
    mean_dice_after=0.61,
    tre_mm_before=9.0,
    tre_mm_after=2.0,
    label_volume_change={"1": 1.2, "2": 0.8},
)

FAILURES = {
    "less alike": {"lncc_after": 0.12, "nmi_after": 1.02},
    "unrelated": {"lncc_before": 0.02, "lncc_after": 0.09, "nmi_before": 1.001, "nmi_after": 1.006},
    "no overlap": {"overlap_fraction": 0.01},
    "folded volume": {"non_diffeomorphic_volume": 0.02},
    "folded voxels": {"folding_fraction": 0.03},
    "wild": {"sdlogj": 2.0},
    "far": {"max_deformation_mm": 150.0},
    "no inverse": {"inverse_consistency_mm": 7.0},
    "mirrored": {"affine_volume_change": -1.0},
    "shrunk": {"affine_volume_change": 0.1},
    "turned": {"affine_fit": 0.13, "turned_fit": 0.26},
    "upside down": {"affine_fit": 0.13, "mirrored_fit": 0.26},
    "fits nowhere": {"affine_fit": 0.01, "turned_fit": 0.01, "mirrored_fit": 0.01},
    "most out of view": {"structure_in_view": 0.2},
    "labels apart": {"mean_dice_before": None, "mean_dice_after": 0.05},
    "labels worse": {"mean_dice_before": 0.7},
    "landmarks worse": {"tre_mm_after": 12.0},
    "not a number": {"sdlogj": math.nan},
    "infinite": {"max_deformation_mm": math.inf},
}

WARNINGS = {
    "no gain": {"lncc_after": 0.19, "nmi_after": 1.049},
    "hardly alike": {
        "lncc_before": 0.1,
        "lncc_after": 0.15,
        "nmi_before": 1.01,
        "nmi_after": 1.015,
    },
    "little overlap": {"overlap_fraction": 0.2},
    "some folded volume": {"non_diffeomorphic_volume": 0.001},
    "some folded voxels": {"folding_fraction": 0.005},
    "uneven": {"sdlogj": 0.8},
    "quite far": {"max_deformation_mm": 60.0},
    "loose inverse": {"inverse_consistency_mm": 2.0},
    "scaled": {"affine_volume_change": 0.4},
    "few labels": {"mean_dice_before": None, "mean_dice_after": 0.2},
    "nothing shows a match": {"affine_fit": 0.16, "turned_fit": 0.14, "mirrored_fit": 0.14},
    "a match no better than a turn": {"affine_fit": 0.30, "turned_fit": 0.29},
    "turned, a little": {"affine_fit": 0.25, "turned_fit": 0.28, "mirrored_fit": 0.2},
    "noise": {"affine_fit": 0.05, "turned_fit": 0.02, "mirrored_fit": 0.02},
    "mirrored, hardly": {"affine_fit": 0.290, "mirrored_fit": 0.291, "mirrored_ncc": 0.9603},
    "mirrored, other contrast": {"affine_ncc": 0.4, "affine_fit": 0.28, "mirrored_fit": 0.29},
    "one axis stretched": {"affine_scales": (0.95, 1.5)},
    "shrunk along one axis": {"affine_scales": (0.5, 1.0)},
    "half out of view": {"structure_in_view": 0.5, "structure_met": 0.5},
    "half blank": {"structure_met": 0.5},
    "labels of another": {"moving_labels_fit": 0.75},
    "fixed labels shifted": {"fixed_labels_fit": 0.3, "fixed_labels_fit_moved": 0.8},
    "labels that do not follow": {"mean_dice_before": 0.5, "mean_dice_after": 0.55},
    "label lost": {"label_volume_change": {"1": 1.0, "2": 0.0}},
}


def test_a_good_registration_passes_without_a_reason():
    verdict = judge(GOOD)
    assert (verdict.status, verdict.reasons) == ("pass", [])


@pytest.mark.parametrize("planted", FAILURES.values(), ids=FAILURES)
def test_a_planted_failure_fails(planted):
    verdict = judge(replace(GOOD, **planted))
    assert verdict.status == "fail"
    assert verdict.reasons


@pytest.mark.parametrize("odd", WARNINGS.values(), ids=WARNINGS)
def test_what_is_odd_is_a_warning_with_one_reason(odd):
    verdict = judge(replace(GOOD, **odd))
    assert verdict.status == "warn"
    assert len(verdict.reasons) == 1


@pytest.mark.parametrize("planted", [*FAILURES.values(), *WARNINGS.values()])
def test_every_reason_has_a_stable_code_that_the_page_explains(planted):
    verdict = judge(replace(GOOD, **planted))
    page = (ROOT / "docs" / "verdict.md").read_text("utf-8")
    assert len(verdict.codes) == len(verdict.reasons)
    assert all(f"`{code}`" in page for code in verdict.codes)


def test_the_page_explains_every_code_and_no_other():
    page = (ROOT / "docs" / "verdict.md").read_text("utf-8")
    listed = set(re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE))
    assert listed == set(ADVICE)


def test_labels_that_agree_outvote_images_that_fit_any_way():
    """Ultrasound and MR: local correlation knows little, the organs' outlines meet."""
    odd = replace(GOOD, affine_fit=0.25, turned_fit=0.30, mirrored_fit=0.28)
    assert judge(odd).codes == ["wrong-way-round"]
    assert judge(replace(odd, mean_dice_after=0.8)).status == "pass"


def test_either_side_of_a_symmetric_template_is_left():
    same = replace(GOOD, affine_fit=0.3, mirrored_fit=0.30001, mirrored_ncc=0.9600)
    assert judge(same).status == "pass"


def test_labels_too_few_to_tell_are_not_held_against_a_place():
    assert (
        judge(replace(GOOD, moving_labels_fit=0.02, moving_labels_fit_moved=0.05)).status == "pass"
    )


def test_reasons_are_sentences_and_failures_come_first():
    verdict = judge(replace(GOOD, overlap_fraction=0.2, folding_fraction=0.03))
    assert verdict.status == "fail"
    assert "folds" in verdict.reasons[0]
    assert all(reason[0].isupper() and reason.endswith(".") for reason in verdict.reasons)


def test_another_contrast_may_lower_the_correlation():
    """CT and MR: NCC falls and changes sign while NMI and LNCC rise."""
    assert judge(replace(GOOD, ncc_before=0.5, ncc_after=-0.3)).status == "pass"


def test_one_measure_that_falls_is_outvoted_by_one_that_rises():
    assert judge(replace(GOOD, lncc_after=0.15)).status == "pass"


def test_a_pair_that_was_aligned_may_lose_what_interpolation_costs():
    aligned = replace(GOOD, lncc_before=0.99, lncc_after=0.93, nmi_before=1.9, nmi_after=1.82)
    assert judge(aligned).status != "fail"


def test_missing_evidence_is_not_held_against_the_pair():
    assert judge(Evidence(lncc_before=0.2, lncc_after=0.5)).status == "pass"


def test_without_any_similarity_success_is_not_claimed():
    assert judge(Evidence(folding_fraction=0.0)).status == "warn"
    assert judge(Evidence(ncc_before=0.8, ncc_after=0.3)).status == "warn"
    assert judge(Evidence(ncc_before=0.3, ncc_after=0.8)).status == "pass"
