"""`warpline cohort` through `warpline up`: two workers, one table, the same files."""

import json
import subprocess
from pathlib import Path

import pytest

from service.client import Client
from tests.e2e.conftest import WARPLINE, Up

QUICK = ["--refine", "none", "--initialise", "none"]


@pytest.fixture
def subjects(pair: dict[str, Path], tmp_path: Path) -> Path:
    """Three of the same image, and one that is no image."""
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    rows = [f"{name},{pair['moving']},{pair['moving_labels']}" for name in ("a", "b", "c")]
    path = tmp_path / "list.csv"
    path.write_text("\n".join(["id,moving,moving_labels", *rows, "bad,broken.nii.gz,"]))
    return path


def cohort(pair: dict[str, Path], subjects: Path, out: Path, *more: str) -> tuple[int, dict]:
    line = [*WARPLINE, "cohort", str(pair["fixed"]), str(subjects), "--out", str(out), "--json"]
    line += ["--fixed-labels", str(pair["fixed_labels"]), *QUICK, *more]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_cohort_on_the_server_is_the_cohort_here(
    up: Up, pair: dict[str, Path], subjects: Path, tmp_path: Path
) -> None:
    code, there = cohort(pair, subjects, tmp_path / "there", "--url", up.url)
    assert code == 1
    states = {row["id"]: row["state"] for row in there["subjects"]}
    assert states == {"a": "done", "b": "done", "c": "done", "bad": "failed"}
    code, here = cohort(pair, subjects, tmp_path / "here", "--jobs", "1")
    assert code == 1
    for name in ("a", "b", "c"):
        for file in ("warped.nii.gz", "ddf.nii.gz", "warped_labels.nii.gz", "overlay.png"):
            ours, theirs = (tmp_path / place / name / file for place in ("here", "there"))
            assert ours.read_bytes() == theirs.read_bytes(), (name, file)
    assert [row["problem"] and row["problem"]["code"] for row in here["subjects"]] == [
        row["problem"] and row["problem"]["code"] for row in there["subjects"]
    ]
    with Client(up.url) as client:
        (told,) = client.cohorts().cohorts
        assert told.counts == {"succeeded": 3, "failed": 1}
        keys = {job.id for job in client.jobs(["succeeded"]).jobs}
        assert {entry.job_id for entry in client.cohort(told.id).table or ()} & keys
        again, _ = cohort(pair, subjects, tmp_path / "there", "--url", up.url)
        assert again == 1
        newest = client.cohorts().cohorts[0]
        assert (newest.subjects, len(client.cohorts().cohorts)) == (1, 2)  # what had failed
        assert client.delete_cohort(told.id) is None
        assert len(client.cohorts().cohorts) == 1
    code, called = cohort(pair, subjects, tmp_path / "called", "--url", f"grpc://{up.grpc}")
    assert code == 1
    assert {row["id"]: row["state"] for row in called["subjects"]} == states
    for file in ("warped.nii.gz", "ddf.nii.gz"):
        ours, theirs = (tmp_path / place / "a" / file for place in ("here", "called"))
        assert ours.read_bytes() == theirs.read_bytes(), file
