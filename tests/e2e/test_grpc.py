"""A pair registered by gRPC on a stack that runs, as a user does it."""

import asyncio
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from service.client import AsyncGrpcClient, Client, GrpcClient
from service.errors import JobNotFoundError, NoContrastError
from tests.e2e.conftest import WARPLINE, Up
from tests.fakes.breaking_wire import BreakingWire

CHOICES: dict[str, Any] = {"refine": "none", "initialise": "rigid", "seed": 4}


def url_of(up: Up) -> str:
    return f"grpc://{up.grpc}"


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def test_grpc_gives_what_rest_gives(up: Up, pair: dict[str, Path], tmp_path: Path) -> None:
    stages: list[str] = []
    with GrpcClient(url_of(up)) as client:
        job = client.register(
            **pair, wait=True, progress=lambda now: stages.append(now.state), **CHOICES
        )
        ours = client.download(job.id, tmp_path / "grpc")
        events = [event.type for event in client.events(job.id)]
        assert client.job(job.id).summary == job.summary
        assert str(job.id) in [str(one.id) for one in client.jobs(["succeeded"]).jobs]
    with Client(up.url) as client:
        theirs = client.download(
            client.register(**pair, wait=True, **CHOICES).id, tmp_path / "rest"
        )
    assert job.summary is not None
    assert job.summary["verdict"]["status"] == "pass"
    assert stages[-1] == "succeeded"
    assert "succeeded" in events
    assert set(ours) == set(theirs)
    for name in ("warped.nii.gz", "warped_labels.nii.gz", "ddf.nii.gz"):
        np.testing.assert_array_equal(voxels(ours[name]), voxels(theirs[name]))


def test_a_network_that_breaks_all_the_time_loses_nothing(
    up: Up, tmp_path: Path, rng: np.random.Generator
) -> None:
    """16 MiB that nobody can compress, over connections that break after 3 MiB each."""
    files = {}
    for role in ("fixed", "moving"):
        data = rng.integers(0, 2**15, (128, 128, 256)).astype(np.int16)
        files[role] = tmp_path / f"{role}.nii"
        nib.save(nib.Nifti1Image(data, np.eye(4)), files[role])
    wire = BreakingWire(int(up.grpc.rpartition(":")[2]))
    wire.up[:] = [3 * 2**20 + 1000] * 6
    sent: list[tuple[int, int]] = []
    with GrpcClient(f"grpc://127.0.0.1:{wire.port}") as client:
        job = client.register(
            **files, sent=lambda *so_far: sent.append(so_far), idempotency_key="once", **CHOICES
        )
        again = client.register(**files, idempotency_key="once", **CHOICES)
        client.cancel(job.id)
    wire.close()
    assert job.id == again.id
    assert wire.connections >= 7
    assert sent[-1][0] == sent[-1][1] > 16 * 2**20


def test_a_gateway_that_is_killed_loses_no_job(
    make_up: Callable[..., Up], pair: dict[str, Path], tmp_path: Path
) -> None:
    up = make_up("--workers", "1")
    killed: list[int] = []

    def kill_once(job: Any) -> None:
        if not killed:
            killed.append(up.children("gateway")[0].pid)
            up.children("gateway")[0].kill()

    with GrpcClient(url_of(up)) as client:
        job = client.register(**pair, wait=True, progress=kill_once, refine=2.0)
        files = client.download(job.id, tmp_path / "out", ["warped.nii.gz"])
    assert killed
    assert job.state == "succeeded"
    assert voxels(files["warped.nii.gz"]).shape == voxels(pair["fixed"]).shape


def test_errors_are_those_of_rest(up: Up, pair: dict[str, Path], tmp_path: Path) -> None:
    flat = tmp_path / "flat.nii"
    nib.save(nib.Nifti1Image(np.full((20, 20, 20), 7, np.int16), np.eye(4)), flat)
    with GrpcClient(url_of(up)) as client:
        with pytest.raises(NoContrastError):
            client.register(flat, pair["moving"], wait=True)
        with pytest.raises(JobNotFoundError):
            client.job("00000000-0000-4000-8000-000000000000")


def test_the_command_line_takes_grpc(up: Up, pair: dict[str, Path], tmp_path: Path) -> None:
    files = [str(pair["fixed"]), str(pair["moving"])]
    told = [*WARPLINE, "register", *files, "-o", str(tmp_path / "out"), "--refine", "none"]
    done = subprocess.run([*told, "--url", url_of(up), "--json"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (tmp_path / "out" / "warped.nii.gz").is_file()
    listed = subprocess.run(
        [*WARPLINE, "jobs", "list", "--url", url_of(up), "--json"], capture_output=True, check=True
    )
    assert report["job_id"] in [job["id"] for job in json.loads(listed.stdout)["jobs"]]


async def _async_register(url: str, pair: dict[str, Path], folder: Path) -> dict[str, Path]:
    async with AsyncGrpcClient(url) as client:
        job = await client.register(pair["fixed"], pair["moving"], wait=True, **CHOICES)
        warped = await client.warp(job.id, image=pair["moving"], wait=True)
        assert warped.kind == "warp"
        return await client.download(job.id, folder)


def test_the_async_client_does_the_same(up: Up, pair: dict[str, Path], tmp_path: Path) -> None:
    files = asyncio.run(_async_register(url_of(up), pair, tmp_path / "out"))
    assert files["ddf.nii.gz"].stat().st_size > 1000
