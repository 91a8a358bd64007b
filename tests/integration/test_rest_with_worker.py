"""A gateway and a worker as real processes, and a pair with a known answer.

The moving image is the fixed one shifted by a known vector and drawn on another grid, so where
every point belongs is known without asking our own code.
"""

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from service.settings import Settings
from service.stores.build import open_stores
from tests.integration.serving import check_a_new_model_is_served, ended
from tests.integration.test_rest_slow_clients import PATIENT, wait_until_healthy
from tests.servers import free_port

ROOT = Path(__file__).parents[2]
SHIFT_MM = np.array([6.0, -4.0, 5.0])
POINTS_MM = np.array([[40.0, 36.0, 40.0], [52.0, 48.0, 30.0], [30.0, 60.0, 55.0]])


def shape_at(world_mm: np.ndarray) -> np.ndarray:
    """A body with an organ and texture, as a function of the world."""
    x, y, z = np.moveaxis(world_mm, -1, 0)
    body = ((x - 44) / 34) ** 2 + ((y - 46) / 40) ** 2 + ((z - 42) / 32) ** 2 < 1
    organ = ((x - 36) / 11) ** 2 + ((y - 52) / 9) ** 2 + ((z - 45) / 13) ** 2 < 1
    rib = ((x - 55) / 6) ** 2 + ((y - 36) / 14) ** 2 + ((z - 36) / 7) ** 2 < 1
    texture = np.sin(x / 5) * np.cos(y / 7) * np.sin(z / 6)
    return np.where(organ, 900, np.where(rib, 300, 600)) * body + 60 * texture * body


def organ_at(world_mm: np.ndarray) -> np.ndarray:
    x, y, z = np.moveaxis(world_mm, -1, 0)
    return ((x - 36) / 11) ** 2 + ((y - 52) / 9) ** 2 + ((z - 45) / 13) ** 2 < 1


def drawn(what: Any, shape: tuple[int, int, int], spacing: tuple[float, ...], shift: Any) -> Any:
    """The function on a grid, moved by `shift` millimetres."""
    affine = np.diag([*spacing, 1.0])
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    return what(index * np.array(spacing) - shift), affine


def nifti(values: np.ndarray, affine: np.ndarray) -> bytes:
    return gzip.compress(bytes(nib.Nifti1Image(values, affine).to_bytes()), 1)


def image(shape: tuple[int, int, int], spacing: tuple[float, ...], shift: Any) -> bytes:
    values, affine = drawn(shape_at, shape, spacing, shift)
    return nifti(gaussian_filter(values, 0.7).astype(np.int16), affine)


def labels(shape: tuple[int, int, int], spacing: tuple[float, ...], shift: Any) -> bytes:
    values, affine = drawn(organ_at, shape, spacing, shift)
    return nifti(values.astype(np.uint8), affine)


FIXED_GRID = ((44, 46, 42), (2.0, 2.0, 2.0))
MOVING_GRID = ((50, 44, 34), (1.8, 2.2, 2.6))
FILES = {
    "fixed": image(*FIXED_GRID, np.zeros(3)),
    "moving": image(*MOVING_GRID, SHIFT_MM),
    "fixed_labels": labels(*FIXED_GRID, np.zeros(3)),
    "moving_labels": labels(*MOVING_GRID, SHIFT_MM),
}


def csv(points_mm: np.ndarray) -> bytes:
    rows = [",".join(f"{x:.6f}" for x in point) for point in points_mm]
    return "\n".join(["x_mm,y_mm,z_mm", *rows, ""]).encode()


def points_in(text: bytes) -> np.ndarray:
    """The moved points of a `points.csv`."""
    table = np.genfromtxt(io.BytesIO(text), delimiter=",", names=True, comments="#")
    names = [name for name in table.dtype.names or () if name.endswith(("x_mm", "y_mm", "z_mm"))]
    return np.stack([np.atleast_1d(table[name]) for name in names[-3:]], -1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The service's own."""
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[httpx.Client]:
    port, log = free_port(), folder / "log"
    chosen = {"DATA_DIR": folder / "data", "PORT": port, "MIN_FREE_MIB": 0, "THREADS": 2}
    chosen |= PATIENT
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment = kept | {f"WARPLINE_{name}": str(value) for name, value in chosen.items()}
    with log.open("wb") as output:
        gateway, worker = (
            subprocess.Popen(
                [sys.executable, "-m", f"service.{face}.main"],
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=output,
            )
            for face in ("gateway", "worker")
        )
        try:
            wait_until_healthy(port, gateway, log)
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300) as client:
                yield client
        finally:
            for process in (gateway, worker):
                process.terminate()
            for process in (gateway, worker):
                process.wait(timeout=300)


@pytest.fixture(scope="module")
def finished(service: httpx.Client) -> dict[str, Any]:
    """A registration that came to its end within a few waits."""
    files = FILES | {"fixed_points": csv(POINTS_MM), "moving_points": csv(POINTS_MM + SHIFT_MM)}
    answer = service.post("/v1/register", files=files, headers={"Prefer": "wait=60"})
    assert answer.status_code in (200, 202), answer.text
    job = ended(service, answer.json())
    assert job["state"] == "succeeded", job["problem"]
    return job


def fetched(service: httpx.Client, job: str, name: str) -> bytes:
    answer = service.get(f"/v1/jobs/{job}/results/{name}", follow_redirects=True)
    assert answer.status_code == 200, answer.text
    return answer.content


def volume(data: bytes) -> np.ndarray:
    return np.asarray(nib.Nifti1Image.from_bytes(gzip.decompress(data)).dataobj)


def test_every_promised_file_arrives_as_announced(
    service: httpx.Client, finished: dict[str, Any]
) -> None:
    results = service.get(finished["links"]["results"]).json()
    assert set(results["files"]) >= {
        "warped.nii.gz",
        "warped_labels.nii.gz",
        "ddf.nii.gz",
        "inverse_ddf.nii.gz",
        "affine.txt",
        "points.csv",
        "report.json",
        "report.html",
    }
    for file in results["files"].values():
        data = service.get(file["url"]).content
        assert len(data) == file["bytes"]
        assert hashlib.sha256(data).hexdigest() == file["sha256"]
    assert results["summary"]["verdict"]["status"] in ("pass", "warn")


def test_the_known_shift_is_found(service: httpx.Client, finished: dict[str, Any]) -> None:
    moved = points_in(fetched(service, finished["id"], "points.csv"))
    error_mm = np.linalg.norm(moved - (POINTS_MM + SHIFT_MM), axis=1)
    assert error_mm.max() < 2.0  # a voxel
    report = json.loads(fetched(service, finished["id"], "report.json"))
    assert report["metrics"]["tre_mm_before"] == pytest.approx(np.linalg.norm(SHIFT_MM), abs=1e-3)
    assert report["metrics"]["tre_mm_after"] < 2.0
    assert report["metrics"]["mean_dice_after"] > 0.9
    warped = volume(fetched(service, finished["id"], "warped.nii.gz"))
    fixed = volume(FILES["fixed"])
    assert warped.shape == fixed.shape
    inside = np.s_[6:-6, 6:-6, 6:-6]
    assert np.corrcoef(warped[inside].ravel(), fixed[inside].ravel())[0, 1] > 0.95


def test_a_new_model_is_served_without_a_restart(
    service: httpx.Client, folder: Path, tmp_path: Path
) -> None:
    stores = open_stores(Settings(data_dir=folder / "data"))
    check_a_new_model_is_served(service, stores, tmp_path)
    stores.close()


def test_the_story_of_the_job_can_be_followed(
    service: httpx.Client, finished: dict[str, Any]
) -> None:
    stream = service.get(finished["links"]["events"])
    assert stream.headers["content-type"].startswith("text/event-stream")
    kinds = [line[7:] for line in stream.text.splitlines() if line.startswith("event: ")]
    assert kinds[:2] == ["queued", "started"]
    assert kinds[-1] == "succeeded"


def test_warp_repeats_the_jobs_own_result_and_moves_points_there_and_back(
    service: httpx.Client, finished: dict[str, Any]
) -> None:
    def warp(files: dict[str, bytes], **fields: str) -> str:
        answer = service.post(
            "/v1/warp",
            data={"job_id": finished["id"]} | fields,
            files=files,
            headers={"Prefer": "wait=60"},
        )
        assert answer.status_code in (200, 202), answer.text
        job = ended(service, answer.json())
        assert job["state"] == "succeeded", job["problem"]
        return str(job["id"])

    source = {"image": FILES["moving"], "labels": FILES["moving_labels"]}
    again = warp(source | {"points": csv(POINTS_MM)}, **{"from": "fixed"})
    for name, tolerance in (("warped.nii.gz", 1.0), ("warped_labels.nii.gz", 0)):
        first = volume(fetched(service, finished["id"], name)).astype(float)
        second = volume(fetched(service, again, name)).astype(float)
        assert np.mean(np.abs(first - second) > tolerance) < 0.002
    there = points_in(fetched(service, again, "points.csv"))
    assert np.abs(there - points_in(fetched(service, finished["id"], "points.csv"))).max() < 0.01
    back = warp({"points": csv(there)}, **{"from": "moving"})
    assert (
        np.abs(points_in(fetched(service, back, "points_in_fixed.csv")) - POINTS_MM).max() < 0.4
    )  # a fifth of a voxel


def test_an_order_sent_again_is_the_same_job(service: httpx.Client) -> None:
    pair = {role: FILES[role] for role in ("fixed", "moving")}
    key = {"Idempotency-Key": "once", "Prefer": "wait=60"}
    options = {"refine": "none", "initialise": "centre"}
    first, second = (
        service.post("/register", files=pair, data=options, headers=key) for _ in range(2)
    )
    assert first.json()["id"] == second.json()["id"]
    assert second.headers["idempotent-replayed"] == "true"
    assert ended(service, second.json())["state"] == "succeeded"


def test_a_file_that_only_the_worker_can_judge_fails_with_its_code(service: httpx.Client) -> None:
    flat = nifti(np.full((20, 20, 20), 7, np.int16), np.diag([2.0, 2.0, 2.0, 1.0]))
    answer = service.post(
        "/v1/register",
        files={"fixed": FILES["fixed"], "moving": flat},
        headers={"Prefer": "wait=60"},
    )
    job = ended(service, answer.json())
    assert job["state"] == "failed"
    assert job["problem"]["code"] == "no-contrast"
    assert job["problem"]["field"] == "moving"
    results = service.get(f"/v1/jobs/{answer.json()['id']}/results")
    assert (results.status_code, results.json()["code"]) == (409, "job-has-no-result")
