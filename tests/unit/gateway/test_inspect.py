"""`POST /inspect`, and DICOM at the door: what is told, what is refused, and who is not named."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.dicom_malformed_series import series, two, without
from tests.unit.gateway.conftest import PAIR, Api


def packed(folder: Path) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for path in sorted(folder.rglob("*.dcm")):
            archive.write(path, str(path.relative_to(folder)))
    return made.getvalue()


@pytest.fixture
def zips(tmp_path: Path) -> dict[str, bytes]:
    """A series, one with a gap, two in one archive, and one of another patient."""
    series(tmp_path / "one", series="1.2.1")
    without(5)(tmp_path / "gap")
    two()(tmp_path / "two")
    series(tmp_path / "other", series="1.2.7", patient="P2")
    return {name: packed(tmp_path / name) for name in ("one", "gap", "two", "other")}


def inspect(api: Api, data: bytes) -> Any:
    return api.post("/v1/inspect", files={"file": data})


def test_a_nifti_file(api: Api) -> None:
    answer = inspect(api, PAIR["fixed"])
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["format"] == "nifti-1"
    assert body["volumes"][0]["shape"] == [12, 9, 7]
    assert body["verdict"] == "This can be registered."


def test_a_series_with_a_gap(api: Api, zips: dict[str, bytes]) -> None:
    body = inspect(api, zips["gap"]).json()
    volume = body["volumes"][0]
    assert (body["format"], body["files"], body["volume_count"]) == ("dicom", 11, 1)
    assert (volume["modality"], volume["slices"], volume["shape"]) == ("CT", 11, [6, 5, 12])
    assert "unevenly spaced" in volume["warnings"][0]
    np.testing.assert_allclose(volume["spacing_mm"], [1, 1, 2])


def test_two_series_are_numbered_as_options_take_them(api: Api, zips: dict[str, bytes]) -> None:
    body = inspect(api, zips["two"]).json()
    assert [volume["number"] for volume in body["volumes"]] == [1, 2]
    assert len({volume["frame_of_reference"] for volume in body["volumes"]}) == 2
    assert "fixed_series" in body["verdict"]


def test_nothing_of_the_patient_is_told(api: Api, zips: dict[str, bytes]) -> None:
    for data in zips.values():
        text = inspect(api, data).text
        for secret in ("Doe", "Jane", "P1", "P2", "1950", "1.2.1", "20260102", "Who", "A1"):
            assert secret not in text


def test_an_upload_is_named_in_json(api: Api, zips: dict[str, bytes]) -> None:
    upload = api.upload(zips["one"])
    answer = api.post("/v1/inspect", json={"upload_id": upload})
    assert answer.status_code == 200, answer.text
    assert answer.json()["volumes"][0]["shape"] == [6, 5, 12]


@pytest.mark.parametrize(
    ("what", "status", "code"),
    [
        ({"files": {"file": b"nothing that is an image" * 20}}, 415, "unsupported-format"),
        ({"data": {"file": "text"}}, 415, "unsupported-format"),
        ({"files": {"other": b"x"}}, 422, "validation-failed"),
        ({"json": {"upload_id": "6f1f0c1e-54a9-4d0c-9d5f-0d4f4f0e7c11"}}, 404, "upload-not-found"),
        ({"json": {}}, 422, "validation-failed"),
    ],
)
def test_what_is_no_file_of_ours(api: Api, what: Any, status: int, code: str) -> None:
    answer = api.post("/v1/inspect", **what)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_two_series_become_a_job(api: Api, zips: dict[str, bytes]) -> None:
    assert api.register({"fixed": zips["one"], "moving": zips["gap"]}).status_code == 202


def test_several_volumes_are_refused_with_their_list(api: Api, zips: dict[str, bytes]) -> None:
    pair = {"fixed": zips["one"], "moving": zips["two"]}
    body = api.register(pair).json()
    assert (body["code"], body["field"]) == ("series-ambiguous", "moving")
    assert [volume["field"] for volume in body["errors"]] == ["1", "2"]
    assert api.register(pair, moving_series="2").status_code == 202
    assert api.register(pair, moving_series="1.2.2").status_code == 202
    assert api.register(pair, moving_series="3").json()["code"] == "series-not-found"


def test_two_patients_are_refused_unless_that_is_meant(api: Api, zips: dict[str, bytes]) -> None:
    pair = {"fixed": zips["one"], "moving": zips["other"]}
    body = api.register(pair).json()
    assert (body["code"], body["field"]) == ("patient-mismatch", "moving")
    assert "P2" not in str(body)
    assert api.register(pair, allow_different_patients="true").status_code == 202
