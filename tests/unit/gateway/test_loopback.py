"""Without keys: programs of this machine may call, pages of strangers may not."""

import hashlib
from collections.abc import Callable

import pytest

from tests.unit.gateway.conftest import PAIR, Api, is_problem


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "[::1]:8080", "gateway"])
def test_names_of_this_machine_are_answered(api: Api, host: str) -> None:
    assert api.get("/v1/jobs", headers={"Host": host}).status_code == 200
    own = {"Host": host, "Origin": f"http://{host}"}
    assert api.post("/v1/register", files=PAIR, headers=own).status_code == 202


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "8.8.8.8", "[2001:db8::1]", "[", "a@b.c"]
)
def test_a_name_that_was_rebound_to_this_machine_is_refused(api: Api, host: str) -> None:
    assert is_problem(api.get("/v1/jobs", headers={"Host": host}), 403, "access-denied")


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:99", ""])
def test_a_form_of_another_page_is_refused(api: Api, origin: str) -> None:
    headers = {"Host": "127.0.0.1:8080", "Origin": origin}
    answer = api.post("/v1/register", files=PAIR, headers=headers)
    assert is_problem(answer, 403, "access-denied")
    assert api.stores.jobs.counts() == {}


def test_listed_pages_and_the_public_name_are_answered(make_api: Callable[..., Api]) -> None:
    api = make_api(cors_origins="https://viewer.example", public_url="https://warp.example/")
    headers = {"Host": "warp.example", "Origin": "https://viewer.example"}
    answer = api.get("/v1/jobs", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://viewer.example"
    asked = headers | {"Access-Control-Request-Method": "POST"}
    assert api.call("OPTIONS", "/v1/register", headers=asked).status_code == 200
    stranger = headers | {"Origin": "https://evil.example"}
    assert is_problem(api.get("/v1/jobs", headers=stranger), 403, "access-denied")


def test_with_keys_the_key_decides(make_api: Callable[..., Api]) -> None:
    digest = hashlib.sha256(b"wl_k").hexdigest()
    api = make_api(api_keys=f"ada:{digest}")
    headers = {"Host": "warp.example", "X-API-Key": "wl_k"}
    assert api.get("/v1/jobs", headers=headers).status_code == 200
