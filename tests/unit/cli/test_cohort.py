"""`warpline cohort` in this process and in two: results, resuming, failures, and the way out."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from service.cli import cohort_processes
from service.cli.cohort_list import Subject
from service.cli.cohort_processes import Crew
from service.cli.cohort_subject import Ended, Terms, registering
from service.cli.main import app
from service.registration.files.volume_file import write_volume
from service.registration.grid import Grid
from service.registration.options import RegisterOptions
from service.registration.volume import Volume
from tests.phantoms import phantom_pair

QUICK = ["--refine", "none", "--initialise", "none"]
PATIENCE_S, MANY = 240, 1000
SAME = ("warped.nii.gz", "ddf.nii.gz", "warped_labels.nii.gz", "affine.txt", "overlay.png")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fixed image with labels, two good subjects and one without contrast."""
    folder = tmp_path_factory.mktemp("data")
    grid = Grid((24, 22, 20), np.diag([4.0, 4.0, 4.0, 1.0]))
    for name, most_mm in (("one", 4.0), ("two", 2.0)):
        pair = phantom_pair(grid, grid, most_mm=most_mm)
        write_volume(folder / f"{name}.nii.gz", pair.moving)
        write_volume(folder / f"{name}_labels.nii.gz", pair.moving_labels)
    write_volume(folder / "fixed.nii.gz", pair.fixed)
    write_volume(folder / "fixed_labels.nii.gz", pair.fixed_labels)
    write_volume(folder / "flat.nii.gz", Volume(np.ones(grid.shape, np.float32), grid))
    rows = [f"{name},{name}.nii.gz,{name}_labels.nii.gz" for name in ("one", "two")]
    (folder / "good.csv").write_text("\n".join(["id,moving,moving_labels", *rows]))
    (folder / "all.csv").write_text(
        "\n".join(["id,moving,moving_labels", "bad,flat.nii.gz,", *rows])
    )
    return folder


def run(data: Path, out: Path, *more: str, images: str = "good.csv") -> tuple[int, dict[str, Any]]:
    line = ["cohort", str(data / "fixed.nii.gz"), str(data / images), "--out", str(out), "--json"]
    line += ["--fixed-labels", str(data / "fixed_labels.nii.gz"), *QUICK, *more]
    done = CliRunner().invoke(app, line)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    return done.exit_code, json.loads(done.stdout)


def test_each_result_is_what_register_gives_and_a_failure_stops_no_other(
    data: Path, tmp_path: Path
) -> None:
    code, told = run(data, tmp_path / "out", "--jobs", "1", images="all.csv")
    assert code == 1
    assert [row["state"] for row in told["subjects"]] == ["failed", "done", "done"]
    assert told["subjects"][0]["problem"]["code"] == "no-contrast"
    problem = json.loads((tmp_path / "out" / "bad" / "problem.json").read_text("utf-8"))
    assert problem == told["subjects"][0]["problem"]
    files = [str(data / name) for name in ("fixed.nii.gz", "two.nii.gz")]
    line = ["register", *files, "--out", str(tmp_path / "alone"), *QUICK]
    line += ["--fixed-labels", str(data / "fixed_labels.nii.gz")]
    line += ["--moving-labels", str(data / "two_labels.nii.gz")]
    assert CliRunner().invoke(app, line).exit_code == 0
    for name in SAME:
        got, wanted = tmp_path / "out" / "two" / name, tmp_path / "alone" / name
        assert got.read_bytes() == wanted.read_bytes(), name
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["bad", "cohort.csv", "cohort.html", "cohort.json", "one", "two"]
    page = (tmp_path / "out" / "cohort.html").read_text("utf-8")
    assert page.count("data:image/png;base64,") == 2
    assert 'href="two/report.html"' in page


def test_what_is_whole_and_the_same_is_not_done_again(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def times(*more: str) -> list[float]:
        code, told = run(data, out, "--jobs", "1", *more)
        assert code == 0
        assert all(row["verdict"] for row in told["subjects"])
        return [(out / name / "report.json").stat().st_mtime for name in ("one", "two")]

    first = times()
    assert times() == first
    (out / "one" / "ddf.nii.gz").write_bytes(b"cut")
    second = times()
    assert second[0] > first[0]
    assert second[1] == first[1]
    third = times("--interpolation", "nearest")
    assert min(third) > max(second)
    assert min(times("--interpolation", "nearest", "--force")) > max(third)


def test_two_at_a_time_give_the_same(data: Path, tmp_path: Path) -> None:
    assert run(data, tmp_path / "one", "--jobs", "1")[0] == 0
    code, told = run(data, tmp_path / "two", "--jobs", "2", images="all.csv")
    assert code == 1
    assert [row["state"] for row in told["subjects"]] == ["failed", "done", "done"]
    for name in SAME:
        got, wanted = (tmp_path / folder / "two" / name for folder in ("two", "one"))
        assert got.read_bytes() == wanted.read_bytes(), name


class Notes:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.problems: dict[str, str | None] = {}

    def stage(self, subject: Subject, stage: str, fraction: float) -> None: ...

    def ended(self, subject: Subject, ended: Ended) -> None:
        self.problems[subject.id] = None if ended.problem is None else ended.problem["code"]


def dying(line: Any, terms: Terms, threads: int) -> None:
    """A process that is killed by one subject."""
    with registering(terms) as register:
        while (subject := line.recv()) is not None:
            if subject.id == "killer":
                os.kill(os.getpid(), signal.SIGKILL)
            line.send(register(subject, lambda *_: None))


def test_a_process_that_dies_takes_no_other_subject_with_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cohort_processes, "_serve", dying)
    options = RegisterOptions(refine="none", initialise="none")
    terms, notes = Terms({"fixed": data / "fixed.nii.gz"}, options, tmp_path), Notes()
    names = {"killer": "one", "one": "one", "two": "two"}
    subjects = [Subject(name, {"moving": data / f"{of}.nii.gz"}) for name, of in names.items()]
    Crew(terms, 1, notes).run(subjects)
    assert notes.problems == {"killer": "worker-lost", "one": None, "two": None}
    assert (tmp_path / "one" / "report.json").exists()
    assert json.loads((tmp_path / "killer" / "problem.json").read_text())["code"] == "worker-lost"


def test_an_interrupt_keeps_what_is_done_and_leaves_no_process(data: Path, tmp_path: Path) -> None:
    # More than are done by the time that even a test that is held up interrupts them.
    rows = [f"s{number},one.nii.gz" for number in range(MANY)]
    (data / "many.csv").write_text("\n".join(["id,moving", *rows]))
    line = [sys.executable, "-m", "service.cli.main", "cohort", str(data / "fixed.nii.gz")]
    line += [str(data / "many.csv"), "--out", str(tmp_path / "out"), "--jobs", "2", *QUICK]
    # A shell in the background ignores interrupts, and so would what these tests start.
    kept = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(line, stderr=subprocess.PIPE, start_new_session=True, text=True)
    signal.signal(signal.SIGINT, kept)
    until = time.monotonic() + PATIENCE_S
    while not list((tmp_path / "out").glob("s*/report.json")) and time.monotonic() < until:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, said
    until = time.monotonic() + PATIENCE_S
    while _is_there(process.pid) and time.monotonic() < until:
        time.sleep(0.02)  # multiprocessing's own helper ends when its pipe does
    assert not _is_there(process.pid)
    table = json.loads((tmp_path / "out" / "cohort.json").read_text("utf-8"))
    done = [row["id"] for row in table["subjects"] if row["state"] == "done"]
    assert 0 < len(done) < MANY
    assert (tmp_path / "out" / "cohort.html").exists()
    assert not list((tmp_path / "out").glob(".warpline-*"))


def _is_there(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
