"""Everything that can go wrong on the way in, each with its code and its status."""

import hashlib
import json
import logging
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from service.errors import (
    ResultNotFoundError,
    StorageFullError,
    StoreUnavailableError,
    WarplineError,
)
from tests.unit.gateway.conftest import PAIR, Api, is_problem, volume, zipped

KEYS = {"ada": "wl_ada-key", "grace": "wl_grace-key"}


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[name]}"}


@pytest.fixture
def keyed(make_api: Callable[..., Api]) -> Api:
    entries = [f"{name}:{hashlib.sha256(key.encode()).hexdigest()}" for name, key in KEYS.items()]
    return make_api(api_keys=",".join(entries))


@pytest.mark.parametrize(
    ("files", "status", "code"),
    [
        ({"fixed": b"%PDF-1.7 not an image"}, 415, "unsupported-format"),
        ({"fixed": b"PK\x03\x04 not an image"}, 422, "invalid-archive"),
        ({"fixed": b""}, 415, "unsupported-format"),
        ({"fixed": volume((12, 9, 7, 2))}, 422, "not-one-volume"),
        ({"fixed": volume()[:-7]}, 422, "truncated-file"),
        ({"fixed": volume() + b"x" * 4096}, 422, "trailing-data"),
        ({"fixed": zipped(volume())[:-8] + b"\0" * 8}, 422, "gzip-checksum"),
        ({"fixed": volume((3000, 2, 2), dtype="uint8")}, 413, "volume-too-large"),
        ({"fixed_points": b"\x00\xff"}, 422, "bad-points"),
        ({"initial_transform": b"hello"}, 422, "bad-transform"),
    ],
)
def test_a_bad_file_is_refused_at_the_door(
    api: Api, files: dict[str, bytes], status: int, code: str
) -> None:
    answer = api.register({**PAIR, **files})
    assert is_problem(answer, status, code)
    assert answer.json()["field"] == next(iter(files))


def test_four_gibibytes_of_zeros_are_refused_from_the_header(api: Api) -> None:
    header = bytearray(volume((2, 2, 2), dtype="uint8")[:352])
    header[40:48] = b"".join(n.to_bytes(2, "little") for n in (3, 1600, 1600, 1600))
    answer = api.register({**PAIR, "moving": zipped(bytes(header) + b"\0" * 2**20)})
    assert is_problem(answer, 413, "volume-too-large")


def test_a_missing_file_is_named(api: Api) -> None:
    answer = api.register({"fixed": PAIR["fixed"]})
    assert is_problem(answer, 422, "validation-failed")
    assert answer.json()["errors"] == [
        {"field": "/inputs/moving", "detail": "This file is needed."}
    ]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"options": {"refine": "hardest"}}, "/options/refine"),
        ({"options": {"seed": -1}}, "/options/seed"),
        ({"options": {"colour": "blue"}}, "/options/colour"),
        ({"options": {"fill": "nan"}}, "/options/fill"),
        ({"priority": 12}, "/priority"),
        ({"queue": "train"}, "/queue"),
        ({"deadline_s": 0}, "/deadline_s"),
        ({"inputs": {"fixed": {}}}, "/inputs/fixed"),
        ({"inputs": {"other": {"upload_id": str(uuid4())}}}, "/inputs/other/[key]"),
    ],
)
def test_each_fault_of_a_body_has_a_json_pointer(
    api: Api, body: dict[str, Any], field: str
) -> None:
    answer = api.post("/v1/register", json=body)
    assert is_problem(answer, 422, "validation-failed")
    assert any(fault["field"].startswith(field) for fault in answer.json()["errors"]), answer.text


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'"a"', b"\xff\xfe", b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_a_problem(api: Api, body: bytes) -> None:
    for url in ("/v1/register", "/v1/warp", "/v1/uploads"):
        answer = api.post(url, content=body, headers={"Content-Type": "application/json"})
        assert is_problem(answer, 422, "validation-failed")


def test_another_content_type_is_named(api: Api) -> None:
    answer = api.post("/v1/register", content=b"a: 1", headers={"Content-Type": "text/yaml"})
    assert is_problem(answer, 415, "unsupported-format")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"--x\r\nContent-Disposition: form-data; name=fixed\r\n\r\nabc", "boundary=x"),
        (b"nonsense", "boundary=x"),
        (b"--x--\r\n", ""),
        (b"--x\r\n\r\nabc\r\n--x--\r\n", "boundary=x"),
        (b"--x\r\nContent-Disposition: form-data; name=who\r\n\r\n1\r\n--x--\r\n", "boundary=x"),
        (b"--x\r\n" + b"A: b\r\n" * 50 + b"\r\n1\r\n--x--\r\n", "boundary=x"),
        (
            b"--x\r\nContent-Disposition: form-data; name=seed\r\n\r\n1\r\n" * 2 + b"--x--\r\n",
            "boundary=x",
        ),
        (
            b"--x\r\nContent-Disposition: form-data; name=seed\r\n\r\n"
            + b"1" * 70_000
            + b"\r\n--x--\r\n",
            "boundary=x",
        ),
    ],
)
def test_a_malformed_form_is_a_problem(api: Api, body: bytes, content_type: str) -> None:
    headers = {"Content-Type": f"multipart/form-data; {content_type}"}
    answer = api.post("/v1/register", content=body, headers=headers)
    assert is_problem(answer, 422, "validation-failed")


def test_without_a_key_there_is_no_way_in(keyed: Api) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer wl_wrong"},
        {"X-API-Key": ""},
        {"Authorization": "Basic YTpi"},
    ):
        for url in ("/v1/jobs", "/jobs", "/v1/limits", "/v1/models", "/v1/nowhere"):
            answer = keyed.get(url, headers=headers)
            assert is_problem(answer, 401, "unauthenticated")
            assert answer.headers["www-authenticate"].startswith("Bearer")
    assert keyed.get("/v1/jobs", headers=bearer("ada")).status_code == 200
    assert keyed.get("/v1/jobs", headers={"X-API-Key": KEYS["ada"]}).status_code == 200


def test_health_and_the_description_need_no_key(keyed: Api) -> None:
    for url in ("/", "/healthz", "/v1/readyz", "/metrics", "/openapi.json"):
        assert keyed.get(url).status_code == 200


def test_anothers_job_and_upload_are_as_if_they_were_not(keyed: Api) -> None:
    made = keyed.post("/v1/register", files=PAIR, headers=bearer("ada"))
    job = made.json()["id"]
    upload = keyed.post("/v1/uploads", json={"bytes": 5}, headers=bearer("ada")).json()["id"]
    for name, status in (("ada", 200), ("grace", 404)):
        assert keyed.get(f"/v1/jobs/{job}", headers=bearer(name)).status_code == status
    for method, url, code in (
        ("GET", f"/v1/jobs/{job}", "job-not-found"),
        ("GET", f"/v1/jobs/{job}/events", "job-not-found"),
        ("GET", f"/v1/jobs/{job}/results", "job-not-found"),
        ("GET", f"/v1/jobs/{job}/results/ddf.nii.gz", "job-not-found"),
        ("POST", f"/v1/jobs/{job}/cancel", "job-not-found"),
        ("DELETE", f"/v1/jobs/{job}", "job-not-found"),
        ("GET", f"/v1/uploads/{upload}", "upload-not-found"),
        ("PUT", f"/v1/uploads/{upload}", "upload-not-found"),
        ("DELETE", f"/v1/uploads/{upload}", "upload-not-found"),
    ):
        foreign = keyed.call(method, url, headers=bearer("grace"))
        nobodys = keyed.call(
            method,
            url.replace(job, str(uuid4())).replace(upload, str(uuid4())),
            headers=bearer("grace"),
        )
        assert is_problem(foreign, 404, code)
        assert foreign.json()["detail"] == nobodys.json()["detail"]
    assert keyed.get("/v1/jobs", headers=bearer("grace")).json()["jobs"] == []
    source = keyed.post(
        "/v1/warp", data={"job_id": job}, files={"image": PAIR["moving"]}, headers=bearer("grace")
    )
    assert is_problem(source, 404, "job-not-found")


def test_what_is_not_there_is_404_and_what_is_not_done_405(api: Api) -> None:
    assert is_problem(api.get("/v1/nowhere"), 404, "not-found")
    assert is_problem(api.get(f"/v1/jobs/{uuid4()}"), 404, "job-not-found")
    assert is_problem(api.get("/v1/jobs/not-an-id"), 422, "validation-failed")
    assert is_problem(api.get("/v1/models/nosuch"), 404, "model-not-found")
    answer = api.call("PATCH", "/v1/jobs")
    assert is_problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "GET"


def test_results_before_the_end_and_without_one_are_409(api: Api) -> None:
    job = api.job()
    waiting = api.get(f"/v1/jobs/{job}/results")
    assert is_problem(waiting, 409, "job-not-finished")
    assert is_problem(
        api.post("/v1/warp", data={"job_id": job}, files={"image": PAIR["moving"]}),
        409,
        "job-not-finished",
    )
    api.call("DELETE", f"/v1/jobs/{job}")
    assert is_problem(api.get(f"/v1/jobs/{job}/results"), 409, "job-has-no-result")


def test_an_unfinished_upload_cannot_be_registered(api: Api) -> None:
    upload = api.post("/v1/uploads", json={"bytes": 10}).json()["id"]
    inputs = {"fixed": {"upload_id": upload}, "moving": {"upload_id": upload}}
    answer = api.post("/v1/register", json={"inputs": inputs})
    assert is_problem(answer, 409, "upload-incomplete")


def test_a_key_that_asks_too_often_is_told_to_wait(make_api: Callable[..., Api]) -> None:
    api = make_api(requests_per_minute=12)
    now_s = [0.0]
    api.app.state.desk.rates.clock = lambda: now_s[0]
    answers = [api.get("/v1/limits") for _ in range(11)]
    assert {answer.status_code for answer in answers[:10]} == {200}
    assert is_problem(answers[10], 429, "rate-limited")
    assert answers[10].headers["retry-after"] == "5"
    assert api.get("/healthz").status_code == 200
    now_s[0] += 5
    assert api.get("/v1/limits").status_code == 200
    assert is_problem(api.get("/v1/limits"), 429, "rate-limited")


def test_too_many_jobs_of_one_key_and_of_all(make_api: Callable[..., Api]) -> None:
    api = make_api(max_jobs_per_key=1)
    api.job()
    assert is_problem(api.register(), 429, "quota-exceeded")
    full = make_api(max_queued_jobs=1)
    full.job()
    assert is_problem(full.register(), 503, "queue-full")
    assert len(full.stores.blobs.list("uploads/")) == 2


def test_a_body_over_the_limit_is_refused_by_its_announcement_and_by_its_bytes(
    make_api: Callable[..., Api],
) -> None:
    api = make_api(max_body_mib=1)
    large = {**PAIR, "moving": bytes(2**20)}
    assert is_problem(api.register(large), 413, "body-too-large")

    async def chunks() -> Any:
        for _ in range(40):
            yield bytes(2**15)

    form = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = api.post("/v1/register", content=chunks(), headers=form)
    assert answer.status_code in (413, 422)
    plain = {"Content-Type": "application/json"}
    answer = api.post("/v1/register", content=chunks(), headers=plain)
    assert is_problem(answer, 413, "body-too-large")
    assert answer.headers["connection"] == "close"
    assert is_problem(api.post("/v1/uploads", json={"bytes": 10**12}), 413, "body-too-large")


def test_a_nearly_full_disk_takes_no_files_but_still_gives_them(
    make_api: Callable[..., Api],
) -> None:
    api = make_api(min_free_mib=10**9)
    assert is_problem(api.register(), 507, "storage-full")
    assert is_problem(api.post("/v1/uploads", json={"bytes": 5}), 507, "storage-full")
    assert api.get("/v1/jobs").status_code == 200
    ready = api.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["checks"] == {"database": "ok", "objects": "ok", "disk": "unavailable"}


class Broken:
    """A store whose every method fails in the same way."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        def fail(*_args: Any, **_options: Any) -> Any:
            raise self._error

        return fail


def breaking(api: Api, store: str, error: Exception) -> None:
    object.__setattr__(api.stores, f"{store}", Broken(error))


@pytest.mark.parametrize(
    ("store", "error", "status"),
    [
        ("blobs", StoreUnavailableError(), 503),
        ("uploads", StoreUnavailableError(), 503),
        ("blobs", StorageFullError(), 507),
        ("blobs", ResultNotFoundError(), 404),
    ],
)
def test_a_store_that_fails_is_told_as_it_is(
    api: Api, store: str, error: WarplineError, status: int
) -> None:
    real = api.stores.blobs, api.stores.uploads
    breaking(api, store, error)
    answer = api.register()
    assert is_problem(answer, status, error.slug)
    object.__setattr__(api.stores, "blobs", real[0])
    object.__setattr__(api.stores, "uploads", real[1])


def test_a_defect_of_ours_tells_nothing_of_itself(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    canary = "Erika^Mustermann"
    breaking(api, "blobs", RuntimeError(f"cannot open /data/{canary}.nii"))
    with caplog.at_level(logging.DEBUG):
        answer = api.register()
    assert is_problem(answer, 500, "internal")
    assert canary not in answer.text
    assert canary not in caplog.text
    assert "RuntimeError" in caplog.text
    assert answer.headers["x-request-id"] in caplog.text


def test_names_of_files_and_addresses_reach_neither_log_nor_store(
    make_api: Callable[..., Api], caplog: pytest.LogCaptureFixture
) -> None:
    api = make_api()
    canary = "CANARY-Mustermann-19701231"
    with caplog.at_level(logging.DEBUG):
        good = api.post(
            "/v1/register",
            files={role: (f"{canary}.nii", data) for role, data in PAIR.items()},
        )
        bad = api.post("/v1/register", files={"fixed": (f"{canary}.nii", b"x"), canary: b"y"})
        api.get(f"/v1/{canary}?patient={canary}")
        api.get(f"/v1/jobs?cursor={canary}")
        api.get(f"/v1/jobs/{canary}")
        api.post(
            "/v1/register",
            content=json.dumps({canary: canary}).encode(),
            headers={"Content-Type": "application/json"},
        )
    assert good.status_code == 202
    assert (
        canary
        not in good.text + bad.text + json.dumps(dict(bad.headers)) + api.get("/metrics").text
    )
    callers = ("httpx", "httpcore")  # the test's own client
    ours = [r.getMessage() for r in caplog.records if not r.name.startswith(callers)]
    assert ours
    assert not [line for line in ours if canary in line]
    data_dir = api.app.state.desk.settings.data_dir
    rows = [path for path in data_dir.rglob("*") if path.is_file()]
    assert len(rows) >= 3
    assert not [path for path in rows if canary.encode() in path.read_bytes()]
    assert not [path for path in data_dir.rglob("*") if canary in path.name]
