"""`warpline doctor` on folders and zips of DICOM."""

import json
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli.main import app
from tests.dicom_malformed_series import series, two, without


@pytest.fixture
def run() -> CliRunner:
    return CliRunner()


def test_every_volume_is_listed_by_number(run: CliRunner, tmp_path: Path) -> None:
    two()(tmp_path / "two")
    result = run.invoke(app, ["doctor", str(tmp_path / "two"), "--json"])
    facts = json.loads(result.stdout)
    assert result.exit_code == 0
    assert [volume["number"] for volume in facts["volumes"]] == [1, 2]
    assert facts["volumes"][0]["shape"] == [6, 5, 12]
    assert "Doe" not in result.stdout


def test_what_is_odd_is_shown_in_words(run: CliRunner, tmp_path: Path) -> None:
    without(5)(tmp_path / "gap")
    result = run.invoke(app, ["doctor", str(tmp_path / "gap")])
    assert result.exit_code == 0
    assert "unevenly spaced" in result.stdout
    assert "CT, series 3" in result.stdout


def test_a_zip_is_looked_into(run: CliRunner, tmp_path: Path) -> None:
    series(tmp_path / "one")
    with zipfile.ZipFile(tmp_path / "one.zip", "w") as archive:
        for path in (tmp_path / "one").iterdir():
            archive.write(path, path.name)
    result = run.invoke(app, ["doctor", str(tmp_path / "one.zip"), "--json"])
    assert json.loads(result.stdout)["volume_count"] == 1


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_what_cannot_be_registered_is_said(
    run: CliRunner, tmp_path: Path, options: list[str]
) -> None:
    without(4, 5, 6, 7)(tmp_path / "half")
    result = run.invoke(app, ["doctor", str(tmp_path / "half"), *options])
    assert result.exit_code == 2
    assert "Send the whole series" in " ".join(result.stdout.split())


def test_a_bad_file_is_named_by_its_number(run: CliRunner, tmp_path: Path) -> None:
    series(tmp_path / "one")
    bad = tmp_path / "one" / "0005.dcm"
    bad.write_bytes(bad.read_bytes()[:-7])
    result = run.invoke(app, ["doctor", str(tmp_path / "one")])
    assert result.exit_code == 2
    assert "truncated-file" in result.stderr
    assert "file 6 of 12" in result.stderr


def test_an_empty_folder_holds_no_dicom(run: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = run.invoke(app, ["doctor", str(tmp_path / "empty")])
    assert result.exit_code == 2
    assert "no-dicom" in result.stderr
