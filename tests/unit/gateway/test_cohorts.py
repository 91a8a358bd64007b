"""`/cohorts`: what is ordered, what is refused, and what is shown of it."""

import csv
import io
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest

from service.errors import NoContrastError
from service.jobs.job import Queue, State
from service.registration.png import rgb_png
from tests.unit.gateway.conftest import LEASE, Api, is_problem, volume


def upload(api: Api, seed: int) -> dict[str, str]:
    return {"upload_id": api.upload(volume(seed=seed))}


def order(api: Api, *names: str, **more: Any) -> dict[str, Any]:
    subjects = [
        {"id": name, "inputs": {"moving": upload(api, 10 + number)}}
        for number, name in enumerate(names)
    ]
    return {"inputs": {"fixed": upload(api, 1)}, "subjects": subjects, **more}


def test_a_cohort_is_a_batch_job_for_each_subject(api: Api) -> None:
    body = order(api, "b", "a", options={"refine": "none"}, priority=3)
    answer = api.post("/v1/cohorts", json=body)
    assert answer.status_code == 202, answer.text
    told = answer.json()
    assert answer.headers["location"] == f"/v1/cohorts/{told['id']}" == told["links"]["self"]
    assert (told["subjects"], told["counts"], told["ended"]) == (2, {"queued": 2}, False)
    assert [row["figures"]["id"] for row in told["table"]] == ["b", "a"]
    job = api.stores.jobs.job(UUID(told["table"][0]["job_id"]))
    assert (job.queue, job.priority) == (Queue.BATCH, 3)
    assert job.request.options["refine"] == "none"
    other = api.stores.jobs.job(UUID(told["table"][1]["job_id"]))
    assert job.request.inputs["fixed"] == other.request.inputs["fixed"]
    assert job.request.inputs["moving"] != other.request.inputs["moving"]
    assert api.get(f"/v1/jobs/{job.id}").json()["state"] == "queued"


def test_the_table_and_the_page_tell_what_has_come(api: Api) -> None:
    made = api.post("/v1/cohorts", json=order(api, "good", "bad", "later")).json()
    overlay = rgb_png(np.zeros((20, 900, 3), np.uint8))
    api.work({"overlay.png": overlay, "report.html": b"<p>"})
    claim = api.stores.jobs.claim([Queue.BATCH], "w", LEASE)
    assert claim is not None
    api.stores.jobs.end(claim, State.FAILED, NoContrastError().problem())
    told = api.get(made["links"]["self"]).json()
    assert told["counts"] == {"succeeded": 1, "failed": 1, "queued": 1}
    assert told["fraction"] == pytest.approx(2 / 3)
    assert told["seconds_left"] >= 0
    rows = [row["figures"] for row in told["table"]]
    assert [row["state"] for row in rows] == ["done", "failed", "waiting"]
    assert (rows[0]["verdict"], rows[0]["ncc_after"]) == ("pass", 0.9)
    assert rows[1]["problem"]["code"] == "no-contrast"
    assert api.get(made["links"]["table"]).json()["subjects"] == rows
    lines = list(csv.DictReader(io.StringIO(api.get(made["links"]["csv"]).text)))
    assert [line["problem"] for line in lines] == ["", "no-contrast", ""]
    page = api.get(made["links"]["page"])
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.text.count("data:image/png;base64,") == 1
    assert f"/v1/jobs/{told['table'][0]['job_id']}/results/report.html" in page.text
    assert page.text.index(">bad<") < page.text.index(">good<")


def test_the_same_key_and_body_replay_the_cohort(api: Api) -> None:
    body, headers = order(api, "a", "b"), {"Idempotency-Key": "once"}
    first = api.post("/v1/cohorts", json=body, headers=headers)
    again = api.post("/v1/cohorts", json=body, headers=headers)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json()["id"] == first.json()["id"]
    resent = order(api, "a", "b")  # the same bytes under new upload ids
    assert api.post("/v1/cohorts", json=resent, headers=headers).json() == again.json()
    other = api.post("/v1/cohorts", json=order(api, "a"), headers=headers)
    assert is_problem(other, 422, "idempotency-key-reused")
    assert sum(api.stores.jobs.counts().values()) == 2


def test_every_fault_is_told_at_once_and_nothing_is_made(api: Api) -> None:
    body = order(api, "a", "a", "c")
    body["subjects"][2]["inputs"] = {"moving_labels": body["inputs"].pop("fixed")}
    answer = api.post("/v1/cohorts", json=body)
    assert is_problem(answer, 422, "validation-failed")
    fields = [fault["field"] for fault in answer.json()["errors"]]
    assert fields == ["/inputs/fixed", "/subjects/1/id", "/subjects/2/inputs/moving"]
    body = order(api, "a", "b", "c")
    for number in (0, 2):
        body["subjects"][number]["inputs"]["moving"] = {"upload_id": str(uuid4())}
    answer = api.post("/v1/cohorts", json=body)
    assert is_problem(answer, 404, "upload-not-found")
    fields = [fault["field"] for fault in answer.json()["errors"]]
    assert [field.split("/inputs")[0] for field in fields] == ["/subjects/0", "/subjects/2"]
    for bad in ({"subjects": []}, {"subjects": [{"id": "../x", "inputs": {}}]}, {"queue": "train"}):
        assert is_problem(api.post("/v1/cohorts", json=body | bad), 422, "validation-failed")
    body = order(api, "a")
    body["inputs"]["fixed"] = {"upload_id": api.upload(b"no image at all")}
    assert api.post("/v1/cohorts", json=body).json()["field"] == "fixed"
    assert api.stores.jobs.counts() == {}


def test_limits_count_every_subject(make_api: Callable[..., Api]) -> None:
    api = make_api(max_jobs_per_key=3)
    assert is_problem(api.post("/v1/cohorts", json=order(api, *"abcd")), 429, "quota-exceeded")
    assert api.stores.jobs.counts() == {}
    assert api.post("/v1/cohorts", json=order(api, *"abc")).status_code == 202
    api = make_api(max_queued_jobs=3)
    assert is_problem(api.post("/v1/cohorts", json=order(api, *"abcd")), 503, "queue-full")


def test_an_unfinished_cohort_is_cancelled_and_a_finished_one_goes(api: Api) -> None:
    made = api.post("/v1/cohorts", json=order(api, "a", "b")).json()
    job = api.work()
    key = api.stores.jobs.job(UUID(job)).manifest.files["ddf.nii.gz"].key  # type: ignore[union-attr]
    here = made["links"]["self"]
    cancelled = api.call("DELETE", here)
    assert cancelled.status_code == 202
    assert cancelled.json()["counts"] == {"succeeded": 1, "cancelled": 1}
    assert [one["id"] for one in api.get("/v1/cohorts").json()["cohorts"]] == [made["id"]]
    assert api.stores.blobs.size(key) == 5
    assert api.call("DELETE", here).status_code == 204
    assert is_problem(api.get(here), 404, "cohort-not-found")
    assert api.stores.blobs.size(key) is None
    assert is_problem(api.get(f"/v1/jobs/{job}"), 404, "job-not-found")
    assert api.get("/v1/cohorts").json() == {"cohorts": [], "cursor": None}


def test_another_keys_cohort_is_not_found(make_api: Callable[..., Api]) -> None:
    api = make_api()
    assert is_problem(api.get(f"/v1/cohorts/{uuid4()}"), 404, "cohort-not-found")
    for name in ("cohort.json", "cohort.csv", "cohort.html"):
        assert is_problem(api.get(f"/v1/cohorts/{uuid4()}/{name}"), 404, "cohort-not-found")
    assert is_problem(api.call("DELETE", f"/v1/cohorts/{uuid4()}"), 404, "cohort-not-found")
