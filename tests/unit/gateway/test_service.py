"""What the service says about itself, and what its process never loads."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from service.errors import StoreUnavailableError
from service.gateway.snapshot import snapshot
from tests.unit.gateway.conftest import PAIR, Api

ROOT = Path(__file__).parents[3]


def test_limits_are_the_settings(make_api: Callable[..., Api]) -> None:
    told = make_api(max_body_mib=3, max_upload_mib=5, max_voxels=1000).get("/v1/limits").json()
    assert told["max_body_bytes"] == 3 * 2**20
    assert told["max_upload_bytes"] == 5 * 2**20
    assert told["max_voxels"] == 1000


def test_ready_means_that_the_database_answers(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    assert api.get("/readyz").json()["status"] == "ok"

    def fail() -> None:
        raise StoreUnavailableError

    monkeypatch.setattr(api.stores.jobs, "ping", fail)
    answer = api.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["database"] == "unavailable"
    assert api.get("/healthz").status_code == 200


def test_metrics_count_routes_and_jobs_but_name_none(api: Api) -> None:
    jobs = [api.job(), api.job()]
    api.work()
    for job in jobs:
        api.get(f"/v1/jobs/{job}")
        api.get(f"/jobs/{job}")
    api.get("/v1/somewhere/else")
    text = api.get("/metrics").text
    figures = dict(re.findall(r"^(warpline_\S+(?:\{.*\})?) (\S+)$", text, re.MULTILINE))
    count = 'warpline_http_requests_total{method="GET",route="/jobs/{job_id}",status="200"}'
    assert float(figures[count]) == 4
    assert float(figures['warpline_jobs{state="queued"}']) == 1
    assert float(figures['warpline_jobs{state="succeeded"}']) == 1
    assert 0 <= float(figures["warpline_queue_age_seconds"]) < 60
    assert not [job for job in jobs if job in text]
    assert "somewhere" not in text


class Page(HTMLParser):
    """Every address that a page would fetch or lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []

    def handle_starttag(self, _tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]


@pytest.mark.parametrize("address", ["/", "/docs"])
def test_pages_for_people_fetch_nothing_from_elsewhere(api: Api, address: str) -> None:
    answer = api.get(address)
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    page = Page()
    page.feed(answer.text)
    assert page.loads
    assert all(address.startswith("/") for address in page.loads)
    assert all(api.get(address).status_code == 200 for address in page.loads)
    assert "url(" not in answer.text


def test_the_reference_names_every_operation(api: Api) -> None:
    page = api.get("/docs").text
    for path, operations in api.get("/openapi.json").json()["paths"].items():
        for method in operations:
            assert f"{method.upper()} {path}" in page


def test_the_reference_tells_what_a_body_holds(api: Api) -> None:
    page = api.get("/docs").text
    form, store, cohorts = (
        page.partition(f"POST /v1/{path}</code>")[2].partition("<h2>")[0]
        for path in ("register", "jobs/{job_id}/store", "cohorts")
    )
    assert "<dt><code>moving_labels</code></dt>" in form
    assert "<h3>JSON</h3><dl><dt><code>pacs</code></dt>" in store
    assert "<dt><code>subjects</code></dt>" in cohorts
    assert 'name="viewport"' in page


def test_the_description_in_docs_is_what_the_service_says() -> None:
    written = (ROOT / "docs" / "openapi.json").read_text("utf-8")
    assert written == snapshot(), (
        "run `python -m service.gateway.snapshot docs/openapi.json` and commit the file"
    )


def test_every_operation_is_described_with_its_errors(api: Api) -> None:
    document = api.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    text = json.dumps(document)
    for name in set(re.findall(r'"#/components/schemas/([^"]+)"', text)):
        assert name in schemas
    for path, operations in document["paths"].items():
        assert path.startswith("/v1/")
        for method, operation in operations.items():
            assert operation["summary"], (method, path)
            assert operation["description"], (method, path)
            for status, response in operation["responses"].items():
                if int(status) >= 400 and status != "503":
                    assert "application/problem+json" in response["content"], (path, status)
    register = document["paths"]["/v1/register"]["post"]
    form = register["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(PAIR) == set(form["required"])
    assert {"401", "408", "409", "413", "415", "422", "429", "503", "507"} <= set(
        register["responses"]
    )


def test_the_process_never_loads_what_computes() -> None:
    code = (
        "import sys; import service.gateway.main;"
        "print([m for m in ('numba', 'onnxruntime', 'torch', 'SimpleITK', 'scipy', 'matplotlib')"
        " if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"
