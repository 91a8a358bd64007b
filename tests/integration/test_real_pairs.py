"""What the default settings reach on real pairs, in native space, from far apart."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.accuracy_cases import deformed_heads, undoing
from service.registration.fields import Affine, DisplacementField
from service.registration.files.field_file import read_field
from service.registration.files.limits import Limits
from service.registration.files.points_file import write_points
from service.registration.files.volume_file import write_volume
from service.registration.initialise import initialise
from service.registration.models_folder import ModelFolder
from service.registration.options import RegisterOptions
from service.registration.pipeline import register_files
from service.registration.points import WorldPoints

# Mean Dice of ANTs' affine + SyN, all by default, on the same pair (benchmarks/peers.jsonl). The
# last is one person twice, where both end within .002 of the affine alone.
ANTS_SYN_DICE = {("1000", "1001"): 0.5537, ("1116", "1125"): 0.5861, ("1003", "1023"): 0.7706}


@pytest.mark.real_data
@pytest.mark.parametrize(("fixed", "moving"), sorted(ANTS_SYN_DICE))
def test_brains_overlap_at_least_as_well_as_after_syn(
    fixed: str, moving: str, shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "brain_malf35"
    files = {
        "fixed": folder / f"{fixed}_SS.nii.gz",
        "moving": folder / f"{moving}_SS.nii.gz",
        "fixed_labels": folder / f"{fixed}_glm.nii.gz",
        "moving_labels": folder / f"{moving}_glm.nii.gz",
    }
    report = register_files(files, RegisterOptions(), tmp_path, ModelFolder())
    assert report.metrics.mean_dice_after is not None
    assert report.metrics.mean_dice_after >= ANTS_SYN_DICE[fixed, moving]
    assert report.metrics.folding_fraction is not None
    assert report.metrics.folding_fraction < 1e-3
    assert report.verdict.status == "pass", report.verdict


@pytest.mark.real_data
def test_a_lung_that_starts_35_mm_off_ends_within_4_mm(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "lung_ct_elastix"
    rows = np.loadtxt(folder / "pairs_corrected_dev26.csv", delimiter=",", skiprows=1)
    ras = rows * np.array([-1.0, -1.0, 1.0, -1.0, -1.0, 1.0])  # the landmarks are ITK's, LPS
    files = {
        "fixed": folder / "3DCT_lung_baseline_small.mha",
        "moving": folder / "followup_reconstructed.nii.gz",
        "fixed_points": tmp_path / "fixed.csv",
        "moving_points": tmp_path / "moving.csv",
    }
    write_points(files["fixed_points"], WorldPoints(ras[:, :3]))
    write_points(files["moving_points"], WorldPoints(ras[:, 3:]))
    options = RegisterOptions(fill=-1000)
    report = register_files(files, options, tmp_path / "out", ModelFolder())
    assert report.metrics.tre_mm_before == pytest.approx(35.66, abs=0.1)
    assert report.metrics.tre_mm_after is not None
    assert report.metrics.tre_mm_after < 4.0
    assert report.verdict.status == "pass", report.verdict


@pytest.mark.real_data
def test_between_mr_and_ct_an_affine_is_no_worse_than_by_mutual_information(
    shared_data: Path,
) -> None:
    """ANTs' affine ends at 3.7 mm on the mean; coarse levels alone would lead to 7.0."""
    ends = []
    for head in deformed_heads(shared_data / "multimodal_rire_cmtk"):
        affine = initialise(head.fixed, head.moving, "affine")
        measure = undoing(head.here, head.there, head.known)
        ends.append(measure(affine, DisplacementField.zero(head.fixed.grid.resampled(16.0))))
    assert np.mean(ends) < 3.67
    assert max(ends) < 4.0


@pytest.mark.real_data
def test_between_mr_and_ct_what_leads_away_from_the_affine_is_dropped(
    shared_data: Path, tmp_path: Path
) -> None:
    """The network makes windows more alike, and the truth 2 mm further off; SyN ends at 4.9."""
    head = next(iter(deformed_heads(shared_data / "multimodal_rire_cmtk")))
    files = {role: tmp_path / f"{role}.nii.gz" for role in ("fixed", "moving")}
    write_volume(files["fixed"], head.fixed)
    write_volume(files["moving"], head.moving)
    report = register_files(files, RegisterOptions(), tmp_path / "out", ModelFolder())
    dropped = [text for text in report.warnings if "what it found was dropped" in text]
    assert len(dropped) == 2
    found = read_field(tmp_path / "out" / "ddf.nii.gz", Limits())
    assert undoing(head.here, head.there, head.known)(Affine.identity(), found) < 3.67
