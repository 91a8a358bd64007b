"""What requests leave in the audit log: who, what, how it ended; and what happens without it."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from service.audit.verify import verify
from tests.unit.gateway.conftest import PAIR, Api, is_problem


def log_of(api: Api) -> Path:
    return Path(api.app.state.desk.audit.path)


def records(api: Api) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log_of(api).read_text().splitlines()]


def test_a_jobs_life_is_recorded(api: Api) -> None:
    job = api.job()
    api.work()
    files = api.get(f"/v1/jobs/{job}/results").json()["files"]
    parts = urlsplit(files["warped.nii.gz"]["url"])
    assert api.get(f"{parts.path}?{parts.query}").content == b"warped"
    assert api.get(f"/v1/jobs/{job}/results/ddf.nii.gz").status_code == 307
    assert api.call("DELETE", f"/v1/jobs/{job}").status_code == 204
    told = records(api)
    assert [one["did"] for one in told] == ["submit", "url", "read", "url", "delete"]
    assert {one["outcome"] for one in told} == {"done"}
    digests = {role: sha256(data).hexdigest() for role, data in PAIR.items()}
    assert told[0]["what"] == {"kind": "register", "job": job, "inputs": digests}
    assert told[1]["what"] == {"job": job, "files": ["ddf.nii.gz", "warped.nii.gz"]}
    assert told[2]["who"] == "signed-url"
    assert told[2]["what"]["object"].startswith(f"jobs/{job}/")
    assert told[3]["what"]["files"] == ["ddf.nii.gz"]
    assert verify(log_of(api)).records == 5


def test_refusals_are_recorded_with_their_code(api: Api) -> None:
    bad = api.register({"fixed": b"Gwendolyn Canary", "moving": PAIR["moving"]})
    assert bad.status_code == 415
    nobody = "00000000-0000-0000-0000-000000000000"
    assert is_problem(api.call("POST", f"/v1/jobs/{nobody}/cancel"), 404, "job-not-found")
    told = [(one["did"], one["outcome"]) for one in records(api)]
    assert told == [("submit", bad.json()["code"]), ("cancel", "job-not-found")]
    assert "Canary" not in log_of(api).read_text()


def test_models_and_trainings_are_recorded(api: Api) -> None:
    answer = api.post("/v1/models/discrete/promote", json={"version": "77"})
    assert answer.status_code == 404
    assert api.post("/v1/train", json={"config": {}}).status_code == 422
    promoted, trained = records(api)
    assert promoted["did"] == "promote"
    assert promoted["what"] == {
        "model": "discrete", "version": "77", "alias": "production", "force": False,
    }  # fmt: skip
    assert promoted["outcome"] == "model-not-found"
    assert (trained["did"], trained["what"]) == ("submit", {"kind": "train"})


def test_where_records_are_required_no_job_goes_on_without_one(
    make_api: Callable[..., Api], tmp_path: Path
) -> None:
    (tmp_path / "log").mkdir()  # a folder where the file should be
    api = make_api(audit_file=tmp_path / "log", audit_required=True)
    assert is_problem(api.register(), 503, "audit-unavailable")
    assert [job["state"] for job in api.get("/v1/jobs").json()["jobs"]] == ["cancelled"]
    relaxed = make_api(audit_file=tmp_path / "log")
    assert relaxed.register().status_code == 202
