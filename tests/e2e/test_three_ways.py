"""The main job as a user meets it: in process, by both clients, by the command line."""

import asyncio
import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from service.client import AsyncClient, Client
from tests.e2e.conftest import WARPLINE, Up

SAME = ("warped.nii.gz", "warped_labels.nii.gz", "ddf.nii.gz", "inverse_ddf.nii.gz", "affine.txt")


def sums(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in SAME}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*WARPLINE, *arguments], capture_output=True, text=True, check=False)


def flags(pair: dict[str, Path]) -> list[str]:
    labels = [f"--{role.replace('_', '-')}={pair[role]}" for role in pair if "labels" in role]
    return [str(pair["fixed"]), str(pair["moving"]), *labels]


@pytest.fixture(scope="session")
def in_process(
    pair: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """The pair registered with no server, and what `--json` said."""
    out = tmp_path_factory.mktemp("in-process") / "result"
    done = run("register", *flags(pair), "--out", str(out), "--json")
    assert done.returncode == 0, done.stderr
    return out, json.loads(done.stdout)


def test_in_process_needs_no_server(in_process: tuple[Path, dict[str, Any]]) -> None:
    out, report = in_process
    assert report["verdict"]["status"] in ("pass", "warn")
    assert report["metrics"]["mean_dice_after"] > report["metrics"]["mean_dice_before"]
    assert report["metrics"]["folding_fraction"] == 0
    assert report["out"] == str(out)
    assert {"report.html", "report.json", "overlay.png"} <= {file.name for file in out.iterdir()}
    for name, file in report["files"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == file["sha256"]


def test_a_server_gives_the_same_bytes(
    up: Up, pair: dict[str, Path], in_process: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    seen: list[str] = []
    with Client(up.url) as client:
        job = client.register(
            **pair,
            wait=True,
            progress=lambda job: seen.append(job.state),  # type: ignore[arg-type]
        )
        client.download(job.id, tmp_path / "result")
        events = list(client.events(job.id))
    assert sums(tmp_path / "result") == sums(in_process[0])
    assert seen[-1] == "succeeded"
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert events[-1].type == "succeeded"


def test_the_async_client_gives_the_same_bytes(
    up: Up, pair: dict[str, Path], in_process: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    async def register() -> list[str]:
        async with AsyncClient(up.url) as client:
            job = await client.register(**pair)  # type: ignore[arg-type]
            types = [event.type async for event in client.events(job.id)]
            await client.download(job.id, tmp_path / "result")
        return types

    assert asyncio.run(register())[-1] == "succeeded"
    assert sums(tmp_path / "result") == sums(in_process[0])


def test_the_command_line_uses_a_server(
    up: Up, pair: dict[str, Path], in_process: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "result"
    done = run("register", *flags(pair), "--out", str(out), "--url", up.url, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert sums(out) == sums(in_process[0])

    listed = json.loads(run("jobs", "list", "--url", up.url, "--json").stdout)
    assert report["job_id"] in [job["id"] for job in listed["jobs"]]
    arguments = ["--url", up.url, "--image", str(pair["moving"]), "--out", str(tmp_path / "warped")]
    done = run("warp", report["job_id"], *arguments)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "warped" / "warped.nii.gz").is_file()


def test_warping_again_gives_the_warped_image(
    pair: dict[str, Path], in_process: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    nibabel = pytest.importorskip("nibabel")
    out = tmp_path / "again"
    done = run("warp", str(in_process[0]), "--image", str(pair["moving"]), "--out", str(out))
    assert done.returncode == 0, done.stderr
    first = nibabel.load(in_process[0] / "warped.nii.gz").get_fdata()
    again = nibabel.load(out / "warped.nii.gz").get_fdata()
    assert abs(first - again).max() < 1e-3 * (first.max() - first.min())


@pytest.mark.parametrize("where", ["here", "there"])
def test_bad_input_is_refused_alike(
    up: Up, pair: dict[str, Path], tmp_path: Path, where: str
) -> None:
    cut = tmp_path / "cut.nii.gz"
    cut.write_bytes(pair["moving"].read_bytes()[:-100])
    server = ["--url", up.url] if where == "there" else []
    out = tmp_path / "result"
    done = run("register", str(pair["fixed"]), str(cut), "-o", str(out), "--json", *server)
    problem = json.loads(done.stdout)
    assert done.returncode == 2
    assert (problem["code"], problem["field"]) == ("truncated-file", "moving")
    assert "Traceback" not in done.stderr
    assert not out.exists()
