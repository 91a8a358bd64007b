"""Cohorts and archives by both gRPC clients, at a real gateway over loopback."""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.client import AsyncClient, AsyncGrpcClient, Client, GrpcClient
from service.errors import (
    CohortNotFoundError,
    InvalidRequestError,
    NothingToStoreError,
    PacsUnknownError,
)
from tests.unit.gateway.conftest import volume
from tests.unit.gateway.rpc.conftest import Rpc

PEERS = '[peers.MAIN]\nprotocol = "dicomweb"\nurl = "https://pacs.example.org/dicom-web"\n'
SERIES = {"pacs": "MAIN", "study": "1.2", "series": "1.2.3"}


class Blocking:
    """The async client, each call on a loop and a connection of its own."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            async def run() -> Any:
                async with AsyncGrpcClient(self._url) as client:
                    return await getattr(client, name)(*args, **options)

            return asyncio.run(run())

        return call


@pytest.fixture
def rpc(make_rpc: Callable[..., Rpc], tmp_path: Path) -> Rpc:
    file = tmp_path / "peers.toml"
    file.write_text(PEERS)
    return make_rpc(pacs_file=file)


@pytest.fixture(params=["sync", "async"])
def client(request: pytest.FixtureRequest, rpc: Rpc) -> Iterator[Any]:
    url = f"grpc://127.0.0.1:{rpc.face.port}"
    if request.param == "async":
        yield Blocking(url)
        return
    with GrpcClient(url) as made:
        yield made


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    made = {name: tmp_path / f"{name}.nii" for name in ("fixed", "a", "b")}
    for number, file in enumerate(made.values()):
        file.write_bytes(volume(seed=number))
    return made


def test_a_cohort_from_files_to_its_end(rpc: Rpc, client: Any, files: dict[str, Path]) -> None:
    subjects = {
        "a": {"moving": files["a"]},
        "b": {"moving": files["b"], "moving_mask": files["fixed"]},
    }
    terms = {"refine": 2.5, "priority": 2, "queue": "interactive", "idempotency_key": "once"}
    made = client.register_cohort({"fixed": files["fixed"]}, subjects, **terms)
    assert (made.subjects, made.counts, made.ended, made.fraction) == (2, {"queued": 2}, False, 0)
    assert [one.figures["id"] for one in made.table] == ["a", "b"]
    job = client.job(made.table[1].job_id)
    assert (job.options["refine"], job.priority, job.queue) == (2.5, 2, "interactive")
    inputs = rpc.api.stores.jobs.job(job.id).request.inputs
    assert inputs["fixed"] == inputs["moving_mask"], "the same bytes were sent once"
    assert client.register_cohort({"fixed": files["fixed"]}, subjects, **terms).id == made.id
    assert rpc.api.work() == str(made.table[0].job_id)
    now = client.cohort(made.id)
    assert (now.counts, now.fraction) == ({"succeeded": 1, "queued": 1}, 0.5)
    assert now.table[0].figures["verdict"] == "pass"
    assert now.seconds_left is not None
    page = client.cohorts(limit=1)
    assert [(one.id, one.table) for one in page.cohorts] == [(made.id, None)]
    assert page.cursor is None
    stopped = client.delete_cohort(made.id)
    assert stopped.counts == {"succeeded": 1, "cancelled": 1}
    assert stopped.ended
    assert client.delete_cohort(made.id) is None
    with pytest.raises(CohortNotFoundError):
        client.cohort(made.id)


def test_what_is_not_there_is_told_before_anything_is_sent(
    rpc: Rpc, client: Any, files: dict[str, Path], tmp_path: Path
) -> None:
    fixed = {"fixed": files["fixed"]}
    with pytest.raises(InvalidRequestError, match="no file"):
        client.register_cohort(fixed, {"a": {"moving": tmp_path / "nothing.nii"}})
    with pytest.raises(InvalidRequestError, match="option"):
        client.register_cohort(fixed, {"a": {"moving": files["a"]}}, colour="red")
    assert rpc.api.stores.jobs.counts() == {}


def test_series_are_fetched_and_results_sent(rpc: Rpc, client: Any) -> None:
    series = {"fixed": SERIES, "moving": SERIES | {"series": "1.2.4"}}
    job = client.register_series(series, {"refine": "none", "model": None}, store_to="MAIN")
    request = rpc.api.stores.jobs.job(job.id).request
    assert (request.store_to, job.options["refine"]) == ("MAIN", "none")
    assert request.inputs["moving"].pacs is not None
    assert request.inputs["moving"].pacs.series == "1.2.4"
    rpc.api.work({"warped.dcm": b"x"})
    sent = client.store(job.id, "MAIN")
    assert (sent.kind, sent.state) == ("store", "queued")
    with pytest.raises(PacsUnknownError):
        client.store(job.id, "ELSEWHERE")
    with pytest.raises(InvalidRequestError, match="named by"):
        client.register_series({"fixed": {"archive": "MAIN"}})
    with pytest.raises(NothingToStoreError):
        client.store(plain(rpc), "MAIN")


def plain(rpc: Rpc) -> str:
    """A job that has left no DICOM behind; no other is waiting."""
    for job in rpc.api.stores.jobs.page(owner="local").jobs:
        rpc.api.post(f"/v1/jobs/{job.id}/cancel")
    rpc.api.job()
    return rpc.api.work()


def test_async_methods_are_awaited_and_the_others_are_not() -> None:
    for plain_kind, awaited in ((Client, AsyncClient), (GrpcClient, AsyncGrpcClient)):
        for name in ("cohort", "store", "register_series"):
            mine = inspect.signature(getattr(plain_kind, name))
            assert mine == inspect.signature(getattr(awaited, name))
