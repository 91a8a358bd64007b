"""`warpline demo`, as the README has it, at half the resolution."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import WARPLINE

pytest.importorskip("nilearn")


@pytest.mark.slow
def test_the_demo_finds_the_known_deformation(tmp_path: Path) -> None:
    out = tmp_path / "demo-result"
    command = [*WARPLINE, "demo", "--quick", "--json", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["error_mm_before"]["median"] > 10
    assert told["error_mm_after"]["median"] < 3
    assert told["metrics"]["mean_dice_after"] > 0.7
    assert told["verdict"]["status"] in ("pass", "warn")
    made = {file.name for file in out.iterdir()}
    assert {"overlay.png", "report.html", "ddf.nii.gz", "fixed.nii.gz", "moving.nii.gz"} <= made
