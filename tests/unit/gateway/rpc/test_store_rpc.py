"""Results that go to archives over gRPC, as over REST: the jobs, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

from service.pb import warpline_pb2 as pb
from tests.unit.gateway.rpc.conftest import ENTRIES, Rpc, bearer, refusal
from tests.unit.gateway.rpc.test_same_errors import is_same

PEERS = '[peers.{name}]\nprotocol = "dicomweb"\nurl = "https://pacs.example.org/dicom-web"\n'


@pytest.fixture
def with_archives(make_rpc: Callable[..., Rpc], tmp_path: Path) -> Callable[..., Rpc]:
    """A gateway that knows MAIN, and HERS, which is for ada only."""
    file = tmp_path / "peers.toml"
    file.write_text(PEERS.format(name="MAIN") + PEERS.format(name="HERS") + 'callers = ["ada"]\n')
    return lambda **chosen: make_rpc(pacs_file=file, **chosen)


def done(rpc: Rpc, *names: str) -> str:
    """A job that has left these files behind."""
    rpc.api.job()
    return rpc.api.work(dict.fromkeys(names, b"x"))


def test_a_result_is_stored_by_a_job_of_its_own(with_archives: Callable[..., Rpc]) -> None:
    rpc = with_archives()
    job = done(rpc, "warped_dicom.zip", "report.json")
    asked = pb.StoreResultRequest(job_id=job, pacs="MAIN", idempotency_key="once")
    made, again = rpc.stub.StoreResult(asked), rpc.stub.StoreResult(asked)
    assert (made.is_replayed, again.is_replayed) == (False, True)
    assert made.job.id == again.job.id
    assert (made.job.kind, made.job.queue, made.job.priority) == ("store", "batch", 0)
    rest = rpc.api.post(
        f"/v1/jobs/{job}/store", json={"pacs": "MAIN"}, headers={"Idempotency-Key": "once"}
    )
    assert rest.headers["idempotent-replayed"] == "true"
    assert rest.json()["id"] == made.job.id


def test_what_cannot_be_stored_is_told_as_over_rest(with_archives: Callable[..., Rpc]) -> None:
    rpc = with_archives()
    plain, waiting = done(rpc, "warped.nii.gz"), rpc.api.job()
    for job, pacs, code in (
        (plain, "MAIN", "nothing-to-store"),
        (waiting, "MAIN", "job-not-finished"),
        (plain, "ELSEWHERE", "pacs-unknown"),
    ):
        asked = pb.StoreResultRequest(job_id=job, pacs=pacs)
        told = refusal(lambda: rpc.stub.StoreResult(asked))  # noqa: B023
        assert told.reason == code
        assert is_same(told, rpc.api.post(f"/v1/jobs/{job}/store", json={"pacs": pacs}))
    for asked, field in (
        (pb.StoreResultRequest(job_id="x", pacs="MAIN"), "job_id"),
        (pb.StoreResultRequest(job_id=plain, pacs="M" * 64), "/pacs"),
        (pb.StoreResultRequest(job_id=plain, pacs="MAIN", idempotency_key="k" * 256), ""),
    ):
        told = refusal(lambda: rpc.stub.StoreResult(asked))  # noqa: B023
        assert told.reason == "validation-failed"
        assert not field or told.fields == (field,)


def test_a_bad_field_has_one_name_on_both_faces(with_archives: Callable[..., Rpc]) -> None:
    rpc = with_archives()
    job = done(rpc, "warped_dicom.zip")
    told = refusal(lambda: rpc.stub.StoreResult(pb.StoreResultRequest(job_id=job, pacs="M" * 64)))
    rest = rpc.api.post(f"/v1/jobs/{job}/store", json={"pacs": "M" * 64})
    assert rest.json()["errors"][0]["field"] == "/pacs"
    assert is_same(told, rest)
    for body, field in (({}, "/pacs"), ({"pacs": "MAIN", "a/b": 1}, "/a~1b")):
        problem = rpc.api.post(f"/v1/jobs/{job}/store", json=body).json()
        assert [error["field"] for error in problem["errors"]] == [field]
    broken = rpc.api.post(
        f"/v1/jobs/{job}/store", content=b'{"pacs', headers={"Content-Type": "application/json"}
    ).json()
    assert (broken["code"], broken["errors"][0]["field"]) == ("validation-failed", "")
    assert "field" not in broken


def test_an_archive_of_anothers_is_not_known(with_archives: Callable[..., Rpc]) -> None:
    rpc = with_archives(api_keys=ENTRIES)
    series = pb.PacsSeries(pacs="HERS", study="1.2", series="1.2.3")
    order = pb.CreateCohortRequest(
        inputs={"fixed": pb.FileReference(pacs=series)},
        subjects=[pb.SubjectOrder(id="a", inputs={"moving": pb.FileReference(pacs=series)})],
    )
    told = refusal(lambda: rpc.stub.CreateCohort(order, metadata=bearer("grace")))
    assert (told.reason, told.fields[0]) == ("pacs-unknown", "/inputs/fixed/pacs")
    made = rpc.stub.CreateCohort(order, metadata=bearer("ada"))
    assert made.cohort.subject_count == 1
