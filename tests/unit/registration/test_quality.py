"""The verdict: planted failures are found, good registrations pass, in every kind of evidence."""

import math
from dataclasses import replace

import pytest

from service.registration.quality import Evidence, judge

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
