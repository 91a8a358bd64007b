"""Jobs as callers see them: lists, progress, events, results, the end."""

import json
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from uuid import UUID

import pytest

from service.jobs.job import Kind, Progress, Queue, State
from tests.unit.gateway.conftest import LEASE, PAIR, Api, is_problem


def test_lists_are_paged_newest_first_and_filtered(api: Api) -> None:
    made = [api.job() for _ in range(5)]
    api.work()
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(3):
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = api.get("/v1/jobs", params=query).json()
        seen += [job["id"] for job in page["jobs"]]
        cursor = page["cursor"]
    assert seen == made[::-1]
    assert cursor is None
    done = api.get("/v1/jobs", params={"state": "succeeded"}).json()["jobs"]
    assert [job["id"] for job in done] == [made[0]]
    both = api.get("/v1/jobs?state=succeeded&state=queued").json()["jobs"]
    assert len(both) == 5
    assert is_problem(api.get("/v1/jobs?state=lost"), 422, "validation-failed")
    assert is_problem(api.get("/v1/jobs?limit=0"), 422, "validation-failed")


@pytest.mark.parametrize("cursor", ["x", "-1", "AAAA", "9" * 400, "' OR 1=1", "%00"])
def test_a_made_up_cursor_is_no_defect_of_ours(api: Api, cursor: str) -> None:
    api.job()
    answer = api.get("/v1/jobs", params={"cursor": cursor})
    assert answer.status_code in (200, 422)


def test_a_queued_job_tells_its_place_and_a_running_one_its_progress(api: Api) -> None:
    first, second = api.job(), api.job()
    assert api.get(f"/v1/jobs/{second}").json()["place"]["position"] == 2
    claim = api.stores.jobs.claim([Queue.INTERACTIVE], "worker-1", LEASE)
    assert claim is not None
    api.stores.jobs.beat(claim, Progress(stage="refine", fraction=0.5), LEASE)
    running = api.get(f"/v1/jobs/{first}").json()
    assert (running["state"], running["stage"], running["fraction"]) == ("running", "refine", 0.5)
    assert running["place"] is None
    assert running["seconds_left"] >= 0
    assert api.get(f"/v1/jobs/{second}").json()["place"]["position"] == 1


def test_delete_cancels_what_waits_asks_what_runs_and_removes_what_is_done(api: Api) -> None:
    waiting = api.job()
    answer = api.call("DELETE", f"/v1/jobs/{waiting}")
    assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")
    running = api.job()
    claim = api.stores.jobs.claim([Queue.INTERACTIVE], "worker-1", LEASE)
    assert claim is not None
    answer = api.post(f"/v1/jobs/{running}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (202, "running")
    assert answer.json()["cancel_requested"]
    api.stores.jobs.end(claim, State.CANCELLED, None)
    for job in (waiting, running):
        assert api.call("DELETE", f"/v1/jobs/{job}").status_code == 204
        assert is_problem(api.get(f"/v1/jobs/{job}"), 404, "job-not-found")
    assert api.stores.blobs.list("") == []


def test_a_deleted_job_takes_its_results_with_it(api: Api) -> None:
    api.job()
    job = api.work()
    url = urlsplit(api.get(f"/v1/jobs/{job}/results").json()["files"]["ddf.nii.gz"]["url"])
    assert api.get(f"{url.path}?{url.query}").status_code == 200
    assert api.call("DELETE", f"/v1/jobs/{job}").status_code == 204
    assert is_problem(api.get(f"{url.path}?{url.query}"), 404, "result-not-found")
    assert api.stores.blobs.list("") == []


def test_a_failed_job_shows_the_problem_as_it_was_stored(api: Api) -> None:
    job = api.job()
    claim = api.stores.jobs.claim([Queue.INTERACTIVE], "worker-1", LEASE)
    assert claim is not None
    problem: dict[str, object] = {"code": "no-contrast", "status": 422, "field": "moving"}
    api.stores.jobs.end(claim, State.FAILED, problem)
    shown = api.get(f"/v1/jobs/{job}")
    assert shown.status_code == 200
    assert shown.json()["state"] == "failed"
    assert shown.json()["problem"] == problem


def events_of(text: str) -> list[dict[str, str]]:
    """The stream as the HTML standard parses it, section 9.2.6."""
    blocks = [block.splitlines() for block in text.split("\n\n") if block]
    parsed = [
        dict(line.split(": ", 1) for line in lines if not line.startswith(":")) for lines in blocks
    ]
    return [block for block in parsed if "data" in block]


def test_events_are_streamed_to_the_end_and_go_on_after_a_break(api: Api) -> None:
    job = api.job()
    claim = api.stores.jobs.claim([Queue.INTERACTIVE], "worker-1", LEASE)
    assert claim is not None
    for stage in ("read", "predict", "refine"):
        api.stores.jobs.beat(claim, Progress(stage=stage, fraction=0.5), LEASE)
    api.stores.jobs.end(claim, State.FAILED, {"code": "no-contrast"})
    answer = api.get(f"/v1/jobs/{job}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    told = events_of(answer.text)
    assert [int(event["id"]) for event in told] == list(range(1, len(told) + 1))
    assert [event["event"] for event in told] == ["queued", "started", *["progress"] * 3, "failed"]
    assert json.loads(told[2]["data"])["data"]["stage"] == "read"
    rest = api.get(f"/v1/jobs/{job}/events", headers={"Last-Event-ID": "3"})
    assert events_of(rest.text) == told[3:]
    assert events_of(api.get(f"/v1/jobs/{job}/events?after=3").text) == told[3:]
    none = api.get(f"/v1/jobs/{job}/events", headers={"Last-Event-ID": "6"})
    assert events_of(none.text) == []
    listed = api.get(f"/v1/jobs/{job}/events", headers={"Accept": "application/json"})
    assert [event["seq"] for event in listed.json()["events"]] == [1, 2, 3, 4, 5, 6]


def test_results_are_urls_that_need_no_key_and_cannot_be_altered(api: Api) -> None:
    api.job()
    job = api.work({"warped.nii.gz": b"warped bytes", "ddf.nii.gz": b"field"})
    results = api.get(f"/v1/jobs/{job}/results").json()
    assert results["summary"]["verdict"]["status"] == "pass"
    file = results["files"]["warped.nii.gz"]
    assert file["bytes"] == 12
    url = urlsplit(file["url"])
    good = api.get(f"{url.path}?{url.query}")
    assert good.content == b"warped bytes"
    assert good.headers["content-disposition"] == "attachment; filename*=UTF-8''warped.nii.gz"
    assert good.headers["cache-control"] == "no-store"
    assert good.headers["x-content-type-options"] == "nosniff"
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    other = urlsplit(results["files"]["ddf.nii.gz"]["url"]).path
    altered = [
        (url.path, query | {"expires": str(int(query["expires"]) + 1)}),
        (url.path, query | {"name": "evil.html"}),
        (url.path, query | {"type": "text/html"}),
        (url.path, query | {"sig": "0" * 64}),
        (url.path, {name: value for name, value in query.items() if name != "sig"}),
        (url.path, {}),
        (other, query),
        ("/v1/objects/../../../etc/passwd", query),
        ("/v1/objects/%2e%2e/%2e%2e/etc/passwd", query),
    ]
    for path, changed in altered:
        answer = api.get(f"{path}?{urlencode(changed)}")
        assert answer.status_code in (403, 404), path
        assert b"field" not in answer.content
    assert is_problem(api.get(f"{url.path}?{urlencode(altered[0][1])}"), 403, "signed-url-invalid")


def test_an_expired_url_is_refused(api: Api) -> None:
    api.stores.blobs.put_bytes("jobs/a/1/x", b"1")
    url = urlsplit(api.stores.blobs.signed_url("jobs/a/1/x", timedelta(seconds=-1)))
    assert is_problem(api.get(f"{url.path}?{url.query}"), 403, "signed-url-invalid")


def test_one_result_is_redirected_to_its_url(api: Api) -> None:
    api.job()
    job = api.work({"ddf.nii.gz": b"field"})
    answer = api.get(f"/v1/jobs/{job}/results/ddf.nii.gz")
    assert answer.status_code == 307
    url = urlsplit(answer.headers["location"])
    assert api.get(f"{url.path}?{url.query}").content == b"field"
    assert is_problem(api.get(f"/v1/jobs/{job}/results/x.nii"), 404, "result-not-found")


@pytest.mark.parametrize(
    ("asked", "status", "content", "told"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=5-99", 206, b"56789", "bytes 5-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
        ("bytes=-", 200, b"0123456789", None),
        ("bytes=10-", 416, None, None),
        ("bytes=-0", 416, None, None),
        ("bytes=5-4", 416, None, None),
    ],
)
def test_a_part_of_a_file_can_be_asked_for(
    api: Api, asked: str, status: int, content: bytes | None, told: str | None
) -> None:
    api.stores.blobs.put_bytes("jobs/a/1/x", b"0123456789")
    url = urlsplit(api.stores.blobs.signed_url("jobs/a/1/x", timedelta(seconds=60)))
    answer = api.get(f"{url.path}?{url.query}", headers={"Range": asked})
    assert answer.status_code == status
    assert answer.headers.get("content-range") == told
    if content is not None:
        assert answer.content == content
        assert answer.headers["content-length"] == str(len(content))
        stale = api.get(
            f"{url.path}?{url.query}", headers={"Range": asked, "If-Range": '"another"'}
        )
        assert stale.status_code == 200
    else:
        assert is_problem(answer, 416, "range-not-satisfiable")


def test_warp_takes_the_transform_of_a_finished_job(api: Api) -> None:
    api.job()
    files = {"ddf.nii.gz": b"field", "inverse_ddf.nii.gz": b"back", "warped.nii.gz": b"w"}
    source = api.work(files)
    points = b"x_mm,y_mm,z_mm\n1,2,3\n"
    answer = api.post(
        "/v1/warp",
        data={"job_id": source, "from": "moving", "interpolation": "nearest"},
        files={"image": PAIR["moving"], "labels": PAIR["moving"], "points": points},
    )
    assert answer.status_code == 202, answer.text
    job = api.stores.jobs.job(UUID(answer.json()["id"]))
    inputs = job.request.inputs
    assert job.request.kind is Kind.WARP
    assert set(inputs) == {"moving", "moving_labels", "moving_points", "ddf", "inverse_ddf"}
    assert api.stores.blobs.get_bytes(inputs["ddf"].key or "") == b"field"
    assert api.stores.blobs.get_bytes(inputs["moving_points"].key or "") == points
    assert job.request.options["interpolation"] == "nearest"
    assert is_problem(api.call("DELETE", f"/v1/jobs/{source}"), 409, "conflict")


@pytest.mark.parametrize(
    ("fields", "files", "field"),
    [
        ({}, {"points": b"x_mm,y_mm,z_mm\n1,2,3\n"}, "/from"),
        ({"from": "left"}, {"points": b"x_mm,y_mm,z_mm\n1,2,3\n"}, "/from"),
        ({"refine": "best"}, {"image": PAIR["moving"]}, None),
        ({"job_id": "1"}, {"image": PAIR["moving"]}, "/job_id"),
    ],
)
def test_a_warp_that_does_not_say_enough_is_refused(
    api: Api, fields: dict[str, Any], files: dict[str, bytes], field: str | None
) -> None:
    api.job()
    answer = api.post("/v1/warp", data={"job_id": api.work()} | fields, files=files)
    assert is_problem(answer, 422, "validation-failed")
    assert field is None or answer.json()["field"] == field
