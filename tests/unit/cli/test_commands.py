"""The command line's edges: help, exit codes, JSON, keys."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from service.cli.main import app
from service.cli.models_here import engines_here
from service.errors import WarplineError
from service.registration.kernels import launch
from service.settings import Settings

HEAVY = ("numba", "onnxruntime", "nibabel", "numpy", "fastapi", "httpx", "torch", "nilearn")


@pytest.fixture
def run() -> CliRunner:
    return CliRunner()


@pytest.mark.parametrize(
    "command",
    [
        "register",
        "warp",
        "evaluate",
        "crossval",
        "stream",
        "up",
        "demo",
        "doctor",
        "jobs",
        "models",
    ],
)
def test_every_command_explains_itself(run: CliRunner, command: str) -> None:
    result = run.invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.stdout


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "sys.argv = ['warpline', '--help']\n"
        "from service.cli.main import app\n"
        "try:\n    app()\nexcept SystemExit as end:\n    assert end.code == 0\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_missing_file_is_bad_usage(run: CliRunner, tmp_path: Path) -> None:
    result = run.invoke(app, ["register", "no.nii", "neither.nii", "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "no.nii" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_wrong_option_names_its_choices(run: CliRunner, tmp_path: Path) -> None:
    image = _some_file(tmp_path)
    result = run.invoke(app, ["register", image, image, "-o", str(tmp_path / "r"), "--refine", "x"])
    assert result.exit_code == 2
    assert "validation-failed" in result.stderr
    assert "--refine" in result.stderr
    assert "up to 600" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_error_with_json_is_a_problem_document(run: CliRunner, tmp_path: Path) -> None:
    image = _some_file(tmp_path)
    arguments = ["register", image, image, "-o", str(tmp_path / "r"), "--refine", "-3", "--json"]
    result = run.invoke(app, arguments)
    problem = json.loads(result.stdout)
    assert result.exit_code == 2
    assert problem["code"] == "validation-failed"
    assert problem["field"] == "refine"


def test_a_folder_with_files_is_not_overwritten_by_accident(run: CliRunner, tmp_path: Path) -> None:
    image = _some_file(tmp_path)
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "precious.txt").write_text("mine")
    result = run.invoke(app, ["register", image, image, "-o", str(tmp_path / "r")])
    assert result.exit_code == 2
    assert "--overwrite" in result.stderr
    assert [file.name for file in (tmp_path / "r").iterdir()] == ["precious.txt"]


def test_points_need_their_space(run: CliRunner, tmp_path: Path) -> None:
    points = _some_file(tmp_path)
    arguments = ["warp", str(tmp_path), "--points", points, "-o", str(tmp_path / "r")]
    result = run.invoke(app, arguments)
    assert result.exit_code == 2
    assert "--points-from" in result.stderr


def test_a_server_that_is_not_there_is_a_failure(
    run: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.client.retrying.FIRST_PAUSE_S", 0.0)
    result = run.invoke(app, ["jobs", "list", "--url", "http://127.0.0.1:9"])
    assert result.exit_code == 1
    assert "unavailable" in result.stderr


def test_a_job_id_must_be_one(run: CliRunner) -> None:
    result = run.invoke(app, ["jobs", "show", "../../etc", "--url", "http://127.0.0.1:9"])
    assert result.exit_code == 2


def test_a_new_key_fits_its_entry(run: CliRunner) -> None:
    made = json.loads(run.invoke(app, ["keys", "new", "alice", "--json"]).stdout)
    name, digest = made["entry"].split(":")
    assert name == "alice"
    assert digest == hashlib.sha256(made["key"].encode()).hexdigest()


def test_a_key_needs_a_plain_name(run: CliRunner) -> None:
    assert run.invoke(app, ["keys", "new", "a,b"]).exit_code == 2


def test_version_says_the_installed_one(run: CliRunner) -> None:
    assert json.loads(run.invoke(app, ["version", "--json"]).stdout)["warpline"]


def test_open_doors_need_keys(run: CliRunner) -> None:
    result = run.invoke(app, ["up", "--host", "0.0.0.0"])  # noqa: S104
    assert result.exit_code == 1
    assert "WARPLINE_API_KEYS" in result.stderr


def test_doctor_explains_a_file(run: CliRunner, tmp_path: Path) -> None:
    from service.registration.files.volume_file import write_volume
    from service.registration.grid import Grid
    from service.registration.volume import Volume

    grid = Grid((5, 6, 7), np.diag([-2.0, -1.0, 3.0, 1.0]))
    path = tmp_path / "image.nii.gz"
    write_volume(path, Volume(np.arange(210, dtype=np.int16).reshape(5, 6, 7), grid))
    facts = json.loads(run.invoke(app, ["doctor", str(path), "--json"]).stdout)
    assert facts["shape"] == [5, 6, 7]
    assert facts["spacing_mm"] == [2.0, 1.0, 3.0]
    assert facts["orientation"].startswith("LPS")
    assert facts["datatype"] == "int16"


def test_doctor_says_why_a_file_would_be_refused(run: CliRunner, tmp_path: Path) -> None:
    result = run.invoke(app, ["doctor", _some_file(tmp_path)])
    assert result.exit_code == 2
    assert "unsupported-format" in result.stderr


def test_exit_codes_follow_the_error_tree() -> None:
    from service import errors
    from service.cli.screen import exit_code

    expected: dict[type[WarplineError], int] = {
        errors.TruncatedFileError: 2,
        errors.ModelNotFoundError: 2,
        errors.UnauthenticatedError: 2,
        errors.ConflictError: 2,
        errors.RateLimitedError: 1,
        errors.JobCancelledError: 1,
        errors.WorkerLostError: 1,
        errors.UnavailableError: 1,
        errors.InternalError: 1,
    }
    assert {kind: exit_code(kind()) for kind in expected} == expected


def _some_file(folder: Path) -> str:
    path = folder / "file.txt"
    path.write_text("not a volume, whatever its name may say\n" * 20)
    return str(path)


def test_the_threads_of_the_settings_are_those_of_kernels(tmp_path: Path) -> None:
    launch.set_threads(None)  # whatever ran before in this process
    before = launch.threads()
    try:
        with engines_here(Settings(data_dir=tmp_path, threads=1)):
            assert launch.threads() == 1
    finally:
        launch.set_threads(None)
    assert launch.threads() == before
