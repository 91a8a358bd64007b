"""`POST /register`: what comes in, what is stored, what is answered."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest

from service.jobs.job import Queue
from service.registration.options import RegisterOptions
from tests.unit.gateway.conftest import PAIR, Api, is_problem, volume, zipped


def test_a_form_becomes_a_job_that_holds_the_very_bytes(api: Api) -> None:
    answer = api.register(initialise="rigid", refine="2.5", queue="batch", priority="2")
    assert answer.status_code == 202
    assert answer.headers["retry-after"] == "1"
    job = api.stores.jobs.job(UUID(answer.json()["id"]))
    assert answer.headers["location"] == f"/v1/jobs/{job.id}"
    assert (job.queue, job.priority, job.owner) == (Queue.BATCH, 2, "local")
    assert job.request.options == RegisterOptions(initialise="rigid", refine=2.5).model_dump()
    for role, data in PAIR.items():
        file = job.request.inputs[role]
        assert file.sha256 == hashlib.sha256(data).hexdigest()
        assert file.bytes == len(data)
        assert api.stores.blobs.get_bytes(file.key or "") == data


def test_options_come_as_one_json_field_and_single_fields_win(api: Api) -> None:
    options = json.dumps({"refine": "none", "initialise": "moments", "seed": 7})
    answer = api.register(options=options, initialise="none")
    assert answer.json()["options"]["initialise"] == "none"
    assert answer.json()["options"]["refine"] == "none"
    assert answer.json()["options"]["seed"] == 7


@pytest.mark.parametrize("path", ["/register", "/v1/register"])
def test_the_route_is_at_the_root_and_under_v1(api: Api, path: str) -> None:
    assert api.post(path, files=PAIR).status_code == 202


def test_json_names_uploads(api: Api) -> None:
    inputs = {role: {"upload_id": api.upload(data)} for role, data in PAIR.items()}
    answer = api.post("/v1/register", json={"inputs": inputs, "options": {"refine": "none"}})
    assert answer.status_code == 202, answer.text
    job = api.stores.jobs.job(UUID(answer.json()["id"]))
    assert api.stores.blobs.get_bytes(job.request.inputs["moving"].key or "") == PAIR["moving"]


def test_a_listed_host_may_be_named_and_no_other(make_api: Callable[..., Api]) -> None:
    api = make_api(allowed_url_hosts="files.example.org, 127.0.0.1:9000")
    upload = {"upload_id": api.upload(PAIR["fixed"])}

    def ask(url: str) -> Any:
        return api.post("/v1/register", json={"inputs": {"fixed": upload, "moving": {"url": url}}})

    for good in ("https://files.example.org/a.nii.gz", "http://127.0.0.1:9000/b"):
        assert ask(good).status_code == 202
    for bad in (
        "https://files.example.org:8443/a",
        "http://127.0.0.1/b",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "https://files.example.org@evil.example/a",
        "https://user:pw@files.example.org/a",
        "https://files.example.org.evil.example/a",
        "https://[::ffff:127.0.0.1]:9000/a",
        "http://files.example.org\\@evil.example/",
        "not a url",
    ):
        answer = ask(bad)
        assert is_problem(answer, 422, "url-not-allowed")
        assert bad not in answer.text


def test_the_same_key_and_body_replay_the_job_and_leave_no_second_copy(api: Api) -> None:
    first = api.register(headers={"Idempotency-Key": "k1"})
    stored = api.stores.blobs.list("uploads/")
    again = api.register(headers={"Idempotency-Key": "k1"})
    assert again.status_code == 202
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert api.stores.blobs.list("uploads/") == stored


@pytest.mark.parametrize(
    "change", [{"refine": "best"}, {"files": {**PAIR, "moving": volume(seed=9)}}]
)
def test_the_same_key_with_another_request_is_refused(api: Api, change: dict[str, Any]) -> None:
    api.register(headers={"Idempotency-Key": "k1"})
    answer = api.register(headers={"Idempotency-Key": "k1"}, **change)
    assert is_problem(answer, 422, "idempotency-key-reused")
    assert len(api.stores.blobs.list("uploads/")) == 2


@pytest.fixture
def worker(api: Api) -> Iterator[None]:
    """Does the next job as soon as it is there."""

    ended = threading.Event()

    def work() -> None:
        while not api.stores.jobs.counts():
            if ended.wait(0.02):
                return
        api.work()

    thread = threading.Thread(target=work)
    thread.start()
    yield
    ended.set()
    thread.join()


@pytest.mark.usefixtures("worker")
def test_prefer_wait_answers_with_the_finished_job(api: Api) -> None:
    answer = api.register(headers={"Prefer": "respond-async, wait=60"})
    assert answer.status_code == 200
    assert answer.headers["preference-applied"] == "wait=60"
    assert answer.json()["state"] == "succeeded"
    assert answer.json()["summary"]["verdict"]["status"] == "pass"


def test_prefer_wait_gives_up_in_time(api: Api) -> None:
    answer = api.register(headers={"Prefer": "wait=1"})
    assert answer.status_code == 202
    assert answer.json()["state"] == "queued"


def test_a_file_of_any_role_is_checked_before_a_job_is_made(api: Api) -> None:
    whole = zipped(volume())
    for role in ("fixed", "moving", "fixed_labels", "moving_mask"):
        answer = api.register({**PAIR, role: whole[:-20]})
        assert is_problem(answer, 422, "truncated-file")
        assert answer.json()["field"] == role
    assert api.stores.jobs.counts() == {}
    assert api.stores.blobs.list("uploads/") == []


def test_labels_on_another_grid_are_refused(api: Api) -> None:
    labels = volume((12, 9, 8), dtype="uint8")
    answer = api.register({**PAIR, "fixed_labels": labels})
    assert is_problem(answer, 422, "grid-mismatch")
    assert answer.json()["field"] == "fixed_labels"


def test_fields_of_view_apart_are_refused_only_when_nothing_brings_them_together(api: Api) -> None:
    apart = {"fixed": volume(), "moving": volume(origin_mm=(500, 0, 0))}
    assert is_problem(api.register(apart, initialise="none"), 422, "no-overlap")
    assert api.register(apart, initialise="centre").status_code == 202
    matrix = b"# RAS+, fixed to moving\n1 0 0 500\n0 1 0 0\n0 0 1 0\n0 0 0 1\n"
    placed = {**apart, "initial_transform": matrix}
    assert api.register(placed, initialise="none").status_code == 202
