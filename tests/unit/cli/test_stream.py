"""`warpline stream` against the live server with a toy engine."""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from service.cli.main import app
from service.cli.stream_results import FrameFolder
from tests.live_fakes import AFFINE, FAIL_AT, SHAPE, FakeEngines, image, run, serving


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    return saved(tmp_path / "reference.nii.gz", image(1))


def saved(path: Path, data: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(data, AFFINE), path)
    return path


def series(folder: Path, *firsts: int) -> Path:
    return saved(folder / "series.nii", np.stack([image(first) for first in firsts], axis=-1))


def streamed(
    *arguments: object, beside: Callable[[], None] | None = None, **settings: Any
) -> tuple[Result, FakeEngines]:
    """Run the command beside a server, and something else beside both."""
    engines = FakeEngines()

    async def test() -> Result:
        async with serving(engines, **settings) as server:
            told = ["stream", *map(str, arguments), "--url", f"grpc://127.0.0.1:{server.port}"]
            if beside is not None:
                threading.Thread(target=beside, daemon=True).start()
            return await asyncio.to_thread(CliRunner().invoke, app, told)

    found: list[Result] = []

    async def keep() -> None:
        found.append(await test())

    run(keep())
    return found[0], engines


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_series_is_played_and_every_frame_answered(reference, tmp_path):
    path = series(tmp_path, 11, 12, 13)
    result, engines = streamed(reference, "--series", path, "--every", "--json")
    assert result.exit_code == 0, result.output
    *answers, last = lines(result)
    assert [answer["frame"] for answer in answers] == [1, 2, 3]
    assert [first for _, first in engines.steps] == [11, 12, 13]
    answer = answers[0]
    assert (answer["name"], answer["verdict"], answer["shift_mm"]) == ("0001", "warn", [1, 2, 3])
    assert (answer["median_mm"], answer["max_mm"]) == (5, 6)
    summary = last["summary"]
    assert (summary["answered"], summary["verdicts"]) == (3, {"warn": 3})
    assert summary["round_trip_ms"]["p50"] > 0


def test_what_is_asked_for_is_written(reference, tmp_path):
    labels = saved(tmp_path / "labels.nii.gz", (image(2) % 3).astype(np.uint8))
    points = tmp_path / "points.csv"
    points.write_text("id,x_mm,y_mm,z_mm\ntip,1,2,3\n")
    out = tmp_path / "out"
    given = ["--labels", labels, "--points", points, "--field", "full", "--warped-image"]
    result, engines = streamed(
        reference, "--series", series(tmp_path, 21), *given, "--out", out, "--cold-start"
    )
    assert result.exit_code == 0, result.output
    files = {path.name for path in (out / "0001-0001").iterdir()}
    assert files == {
        "affine.txt",
        "ddf.nii.gz",
        "points.csv",
        "rigid.txt",
        "warped.nii.gz",
        "warped_labels.nii.gz",
    }
    written = nib.load(out / "0001-0001" / "warped_labels.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), image(2) % 3)
    np.testing.assert_allclose(written.affine, AFFINE)
    field = nib.load(out / "0001-0001" / "ddf.nii.gz")
    assert field.shape == (*SHAPE, 1, 3)
    lps_mm = np.asarray(field.dataobj)[3, 4, 5, 0]
    np.testing.assert_array_equal(lps_mm, [-0.5, -0.5, 0.5])
    assert (out / "0001-0001" / "points.csv").read_text().splitlines()[1].startswith("tip,1.0")
    assert json.loads((out / "answers.jsonl").read_text())["frame"] == 1
    opening = engines.trackers[0].opening
    assert (opening.warm_start, opening.answers_all, opening.role) == (False, False, "moving")
    assert "0001  warn" in result.stdout


def test_a_folder_is_watched(reference, tmp_path):
    folder = tmp_path / "export"
    folder.mkdir()
    saved(folder / "old.nii", image(29_999))
    stop = threading.Event()

    def export() -> None:
        for number in range(30, 29_999):
            saved(folder / f"{number}.part.nii", image(number)).rename(folder / f"{number}.nii")
            if stop.wait(0.1):
                return

    result, engines = streamed(
        reference, "--watch", folder, "--frames", 2, "--json", "--every", beside=export
    )
    stop.set()
    assert result.exit_code == 0, result.output
    found = lines(result)
    assert [line.get("frame") for line in found] == [1, 2, None]
    assert 29_999 not in [first for _, first in engines.steps]
    assert found[0]["name"].endswith(".nii")


def test_as_many_answers_are_told_as_were_asked_for(reference, tmp_path, monkeypatch):
    """While one is written others come: they count when they are told."""
    write = FrameFolder.write

    def slowly(folder, name, answer):
        time.sleep(0.3)
        return write(folder, name, answer)

    monkeypatch.setattr(FrameFolder, "write", slowly)
    path, out = series(tmp_path, 11, 12, 13, 14), tmp_path / "out"
    given = ["--rate", 20, "--every", "--frames", 2, "--out", out, "--json"]
    result, _ = streamed(reference, "--series", path, *given)
    assert result.exit_code == 0, result.output
    assert sum("frame" in line for line in lines(result)) == 2
    assert len(list(out.glob("000*/affine.txt"))) == 2


def test_made_up_frames_need_nothing_but_the_reference(reference):
    result, engines = streamed(reference, "--synthetic", 3, "--every")
    assert result.exit_code == 0, result.output
    assert len(engines.steps) == 3
    assert engines.trackers[0].opening.frame.dtype == np.float32


def test_a_refused_frame_is_told(reference, tmp_path):
    path = series(tmp_path, 41, FAIL_AT, 43)
    result, _ = streamed(reference, "--series", path, "--every", "--json")
    found = {line["frame"]: line for line in lines(result) if "frame" in line}
    assert sorted(found) == [1, 2, 3]
    assert found[2]["error"]["code"] == "model-not-found"
    assert lines(result)[-1]["summary"]["refused"] == 1


def test_a_refused_session_ends_the_command(reference, tmp_path):
    path = series(tmp_path, 51)
    result, _ = streamed(reference, "--series", path, "--budget-ms", 1, "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["code"] == "budget-too-short"


@pytest.mark.parametrize(
    "arguments", [[], ["--synthetic", "2", "--watch", "."], ["--synthetic", "1", "--pause", "x"]]
)
def test_bad_usage_is_told(reference, arguments):
    result = CliRunner().invoke(app, ["stream", str(reference), *arguments])
    assert result.exit_code == 2
    assert "validation" in result.stderr


def test_labels_elsewhere_are_told_before_anything_is_started(reference, tmp_path):
    labels = saved(tmp_path / "labels.nii", np.ones((3, 4, 5), np.uint8))
    told = ["stream", str(reference), "--synthetic", "1", "--labels", str(labels)]
    result = CliRunner().invoke(app, told)
    assert result.exit_code == 2
    assert "grid-mismatch" in result.stderr


def test_frames_have_the_shape_of_the_first(reference, tmp_path):
    assert SHAPE == (64, 48, 24)
    path = saved(tmp_path / "small.nii", np.stack([image(1, (20, 30, 40))] * 2, axis=-1))
    result, engines = streamed(reference, "--series", path, "--every")
    assert result.exit_code == 0, result.output
    assert engines.trackers[0].opening.frame.grid.shape == (20, 30, 40)
