"""Live sessions on a stack that runs: equal to `register`, through kills, on the command line."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from service.client import LiveSession
from tests.e2e.conftest import PATIENCE_S, WARPLINE, Up

FRAMES = 3


@pytest.fixture(scope="session")
def heart(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The first frames of a beating heart, the fifth as reference, and its leaflets."""
    folder, data = tmp_path_factory.mktemp("heart"), shared_data / "heart_tee_4d"
    whole = nib.load(data / "greedy_img4d.nii.gz")
    voxels = np.asarray(whole.dataobj)
    files = {"labels": data / "greedy_seg05.nii.gz"}
    parts = {"series": voxels[..., :FRAMES], "reference": voxels[..., 4]}
    for number in range(FRAMES):
        parts[f"frame{number}"] = voxels[..., number]
    for name, part in parts.items():
        files[name] = folder / f"{name}.nii"
        nib.save(nib.Nifti1Image(part, whole.affine), files[name])
    return files


def streamed(*arguments: object) -> list[dict]:
    told = [*WARPLINE, "stream", *map(str, arguments), "--json"]
    done = subprocess.run(told, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def field_of(folder: Path) -> np.ndarray:
    """Displacements in voxels."""
    image = nib.load(folder / "ddf.nii.gz")
    spacing_mm = np.linalg.norm(image.affine[:3, :3], axis=0)
    return np.asarray(image.dataobj)[:, :, :, 0] / spacing_mm


@pytest.mark.real_data
def test_each_answer_is_what_register_gives_for_the_pair(
    up: Up, heart: dict[str, Path], tmp_path: Path
) -> None:
    given = ["--series", heart["series"], "--labels", heart["labels"], "--every", "--cold-start"]
    wanted = ["--field", "full", "--warped-image", "--out", tmp_path / "live"]
    *answers, last = streamed(heart["reference"], *given, *wanted, "--url", f"grpc://{up.grpc}")
    assert last["summary"]["answered"] == len(answers) == FRAMES
    for number in range(FRAMES):
        alone = tmp_path / f"alone{number}"
        pair = [heart[f"frame{number}"], heart["reference"], "--moving-labels", heart["labels"]]
        told = [*WARPLINE, "register", *map(str, pair), "-o", str(alone), "--json"]
        assert subprocess.run(told, capture_output=True, check=False).returncode in (0, 1)
        live = tmp_path / "live" / f"{number + 1:04d}-{number + 1:04d}"
        assert np.abs(field_of(live) - field_of(alone)).max() < 0.01
        ours, theirs = (
            np.asarray(nib.load(folder / "warped_labels.nii.gz").dataobj)
            for folder in (live, alone)
        )
        assert (ours != theirs).mean() < 1e-4
        np.testing.assert_allclose(
            np.loadtxt(live / "affine.txt"), np.loadtxt(alone / "affine.txt"), atol=1e-3
        )


def test_without_a_server_one_is_started(pair: dict[str, Path]) -> None:
    *answers, last = streamed(
        pair["fixed"], "--synthetic", 4, "--every", "--refine", "none", "--labels",
        pair["fixed_labels"],
    )  # fmt: skip
    assert [answer["frame"] for answer in answers] == [1, 2, 3, 4]
    assert last["summary"]["round_trip_ms"]["p99"] > 0
    assert all(answer["latency_ms"] <= answer["round_trip_ms"] for answer in answers)


@pytest.mark.parametrize("face", ["gateway", "live"])
def test_a_session_goes_on_when_a_process_is_killed(
    make_up: Callable[..., Up], pair: dict[str, Path], face: str
) -> None:
    up = make_up("--workers", "1")
    image = nib.load(pair["fixed"])
    voxels = np.asarray(image.dataobj)
    terms = {"policy": "every", "role": "fixed", "options": {"refine": "none"}}
    terms["patience_s"] = PATIENCE_S
    with LiveSession(f"grpc://{up.grpc}", voxels, image.affine, **terms) as session:  # type: ignore[arg-type]
        session.wait_until_ready(PATIENCE_S)
        seen = []
        for number in range(1, 7):
            session.send(np.roll(voxels, number % 3, axis=0))
            if number == 3:
                up.children(face)[0].kill()
        session.finish()
        seen = [answer.number for answer in session.answers()]
        counters = session.counters
    assert seen == [1, 2, 3, 4, 5, 6]
    assert counters.reconnects >= 1
    assert counters.reopened == (face == "live")
