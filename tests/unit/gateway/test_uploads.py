"""`/uploads`: whatever breaks, no acknowledged byte is lost and none is taken twice."""

import base64
import hashlib
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.errors import StoreUnavailableError
from tests.unit.gateway.conftest import PAIR, Api, is_problem

DATA = bytes(range(256)) * 31 + b"odd"


def announce(api: Api, data: bytes = DATA, **more: Any) -> str:
    made = api.post("/v1/uploads", json={"bytes": len(data), **more})
    assert made.status_code == 201, made.text
    assert made.headers["upload-offset"] == "0"
    assert made.json()["chunk_bytes"] >= 2**20
    return str(made.headers["location"])


def stored(api: Api, url: str) -> bytes:
    upload = api.stores.uploads.upload(UUID(url.rpartition("/")[2]), "local")
    return api.stores.blobs.get_bytes(upload.key)


def send_and_break(api: Api, url: str, offset: int, data: bytes) -> None:
    """Send these bytes as the start of a longer body, then vanish."""

    async def call() -> None:
        sent = [{"type": "http.request", "body": data, "more_body": True}] if data else []
        messages = iter([*sent, {"type": "http.disconnect"}])

        async def receive() -> Any:
            return next(messages)

        async def send(_message: Any) -> None:
            """Nobody listens any more."""

        scope = {
            "type": "http",
            "method": "PATCH",
            "path": url,
            "raw_path": url.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "http_version": "1.1",
            "server": ("gateway", 80),
            "client": ("127.0.0.1", 1),
            "headers": [
                (b"upload-offset", str(offset).encode()),
                (b"content-length", str(len(DATA)).encode()),
            ],
        }
        await api.app(scope, receive, send)

    api.portal.call(call)


def test_a_whole_file_in_one_request(api: Api) -> None:
    url = announce(api)
    answer = api.call("PUT", url, content=DATA)
    assert answer.status_code == 200
    assert answer.json()["complete"]
    assert answer.json()["sha256"] == hashlib.sha256(DATA).hexdigest()
    assert stored(api, url) == DATA
    assert is_problem(api.call("PUT", url, content=DATA), 409, "upload-complete")


@given(cuts=st.lists(st.integers(0, len(DATA)), max_size=6).map(sorted), mends=st.booleans())
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_transfer_broken_at_any_byte_goes_on_from_there(
    api: Api, cuts: list[int], mends: bool
) -> None:
    url = announce(api)
    for cut in cuts:
        received = api.get(url).json()["received"]
        if mends and received < cut:
            answer = api.call(
                "PATCH", url, content=DATA[received:cut], headers={"Upload-Offset": str(received)}
            )
            assert answer.status_code == 200
        elif received < cut < len(DATA):
            send_and_break(api, url, received, DATA[received:cut])
    received = int(api.call("HEAD", url).headers["upload-offset"])
    assert received == max((cut for cut in cuts if mends or cut < len(DATA)), default=0)
    if received < len(DATA):
        span = f"bytes {received}-{len(DATA) - 1}/{len(DATA)}"
        answer = api.call("PUT", url, content=DATA[received:], headers={"Content-Range": span})
        assert answer.status_code == 200, answer.text
    assert api.get(url).json()["complete"]
    assert stored(api, url) == DATA
    assert len(api.stores.blobs.list(url.removeprefix("/v1/"))) == 1


def test_a_piece_that_the_row_never_knew_of_is_sent_again(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = announce(api)
    real = api.stores.uploads.advance

    def fail(*_args: Any) -> Any:
        raise StoreUnavailableError

    monkeypatch.setattr(api.stores.uploads, "advance", fail)
    first = api.call("PATCH", url, content=DATA[:1000], headers={"Upload-Offset": "0"})
    assert is_problem(first, 503, "store-unavailable")
    monkeypatch.setattr(api.stores.uploads, "advance", real)
    assert api.get(url).json()["received"] == 0
    for start, end in ((0, 700), (700, 1000), (1000, len(DATA))):
        answer = api.call(
            "PATCH", url, content=DATA[start:end], headers={"Upload-Offset": str(start)}
        )
        assert answer.status_code == 200
    assert stored(api, url) == DATA


def test_a_piece_at_the_wrong_place_is_told_the_right_one(api: Api) -> None:
    url = announce(api)
    api.call("PATCH", url, content=DATA[:100], headers={"Upload-Offset": "0"})
    for offset in ("0", "99", "101"):
        answer = api.call("PATCH", url, content=b"x", headers={"Upload-Offset": offset})
        assert is_problem(answer, 409, "conflict")
        assert "byte 100" in answer.json()["detail"]
    assert api.get(url).json()["received"] == 100


def test_a_file_that_is_not_the_announced_one_is_dropped(api: Api) -> None:
    url = announce(api, sha256=hashlib.sha256(DATA).hexdigest())
    wrong = DATA[:-1] + b"!"
    api.call("PATCH", url, content=wrong[:500], headers={"Upload-Offset": "0"})
    answer = api.call("PATCH", url, content=wrong[500:], headers={"Upload-Offset": "500"})
    assert is_problem(answer, 422, "checksum-mismatch")
    assert is_problem(api.get(url), 404, "upload-not-found")
    assert api.stores.blobs.list("uploads/") == []


def test_a_file_that_is_the_announced_one_is_kept(api: Api) -> None:
    url = announce(api, sha256=hashlib.sha256(DATA).hexdigest().upper())
    assert api.call("PUT", url, content=DATA).json()["complete"]


def test_a_damaged_piece_is_not_taken(api: Api) -> None:
    url = announce(api)
    digest = base64.b64encode(hashlib.sha256(DATA[:50]).digest()).decode()
    headers = {"Upload-Offset": "0", "Content-Digest": f"sha-256=:{digest}:"}
    answer = api.call("PATCH", url, content=DATA[1:51], headers=headers)
    assert is_problem(answer, 422, "checksum-mismatch")
    assert api.get(url).json()["received"] == 0
    assert api.call("PATCH", url, content=DATA[:50], headers=headers).json()["received"] == 50


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Content-Range": "bytes 0-9"}, 422, "validation-failed"),
        ({"Content-Range": "bytes 5-4/7939"}, 422, "validation-failed"),
        ({"Content-Range": "bytes 0-9/12"}, 422, "validation-failed"),
        ({"Content-Range": "bytes 0-9999999/*"}, 422, "validation-failed"),
        ({"Content-Range": "bytes 0-5/*"}, 422, "validation-failed"),
        ({"Content-Range": "bytes 1-10/*"}, 409, "conflict"),
        ({"Upload-Offset": "-1"}, 422, "validation-failed"),
        ({"Upload-Offset": "9" * 30}, 422, "validation-failed"),
    ],
)
def test_headers_that_do_not_fit_are_problems(
    api: Api, headers: dict[str, str], status: int, code: str
) -> None:
    url = announce(api)
    answer = api.call("PUT", url, content=b"0123456789", headers=headers)
    assert is_problem(answer, status, code)
    assert api.get(url).json()["received"] == 0


def test_more_than_was_announced_is_refused(api: Api) -> None:
    url = announce(api, DATA)
    assert is_problem(api.call("PUT", url, content=DATA + b"x"), 413, "body-too-large")


def test_a_dropped_upload_is_gone_unless_a_job_reads_it(api: Api) -> None:
    url = announce(api)
    api.call("PATCH", url, content=DATA[:10], headers={"Upload-Offset": "0"})
    assert api.call("DELETE", url).status_code == 204
    assert is_problem(api.get(url), 404, "upload-not-found")
    assert api.stores.blobs.list("uploads/") == []


def test_the_atlas_of_many_jobs_outlives_its_upload(api: Api) -> None:
    uploads = {role: api.upload(data) for role, data in PAIR.items()}
    inputs = {role: {"upload_id": upload} for role, upload in uploads.items()}
    jobs = [api.post("/v1/register", json={"inputs": inputs}).json()["id"] for _ in range(2)]
    for upload in uploads.values():
        assert api.call("DELETE", f"/v1/uploads/{upload}").status_code == 204
    for job in jobs:
        assert api.work() == job
        request = api.stores.jobs.job(UUID(job)).request
        if job == jobs[0]:
            assert api.stores.blobs.size(request.inputs["fixed"].key or "") == len(PAIR["fixed"])
            assert api.call("DELETE", f"/v1/jobs/{job}").status_code == 204
            assert api.stores.blobs.size(request.inputs["fixed"].key or "") == len(PAIR["fixed"])


def test_an_expired_upload_is_gone(make_api: Callable[..., Api]) -> None:
    api = make_api(upload_ttl_h=1e-9)
    made = api.post("/v1/uploads", json={"bytes": 5})
    assert is_problem(api.get(made.headers["location"]), 404, "upload-not-found")
    assert api.stores.uploads.expired()
