"""Whatever goes wrong has the same code over gRPC as over REST, and the status of its class."""

import json
import logging
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import grpc
import httpx
import pytest

from service.errors.tree import errors_by_slug
from service.pb import warpline_pb2 as pb
from tests.unit.gateway.rpc.conftest import ENTRIES, Refusal, Rpc, bearer, refusal

NOBODYS = str(uuid4())


def is_same(over_grpc: Refusal, over_rest: httpx.Response) -> bool:
    """Whether both faces told the same error, in the words of each."""
    problem = over_rest.json()
    assert over_grpc.reason == problem["code"], (over_grpc, problem)
    assert over_grpc.code == errors_by_slug()[over_grpc.reason].grpc_code
    assert over_grpc.sentence == problem["detail"]
    assert (over_grpc.retry_s is not None) == ("retry-after" in over_rest.headers)
    return True


def upload_reference(upload_id: str) -> dict[str, pb.FileReference]:
    return {"image": pb.FileReference(upload_id=upload_id)}


@pytest.mark.parametrize(
    ("message", "method", "url", "body"),
    [
        (pb.GetJobRequest(job_id=NOBODYS), "GET", f"/v1/jobs/{NOBODYS}", None),
        (pb.WatchJobRequest(job_id=NOBODYS), "GET", f"/v1/jobs/{NOBODYS}/events", None),
        (pb.CancelJobRequest(job_id=NOBODYS), "POST", f"/v1/jobs/{NOBODYS}/cancel", None),
        (pb.DeleteJobRequest(job_id=NOBODYS), "DELETE", f"/v1/jobs/{NOBODYS}", None),
        (pb.ListResultsRequest(job_id=NOBODYS), "GET", f"/v1/jobs/{NOBODYS}/results", None),
        (pb.ListJobsRequest(page_token="no cursor"), "GET", "/v1/jobs?cursor=no%20cursor", None),
        (pb.GetModelRequest(model="nosuch"), "GET", "/v1/models/nosuch", None),
        (
            pb.PromoteModelRequest(name="nosuch", version="1"),
            "POST",
            "/v1/models/nosuch/promote",
            {"version": "1"},
        ),
        (
            pb.PromoteModelRequest(name="nosuch", version="../1"),
            "POST",
            "/v1/models/nosuch/promote",
            {"version": "../1", "force": False, "alias": "production"},
        ),
        (
            pb.RollBackModelRequest(name="discrete"),
            "POST",
            "/v1/models/discrete/rollback",
            {},
        ),
        (
            pb.DeleteModelRequest(name="discrete", version="1"),
            "DELETE",
            "/v1/models/discrete/1",
            None,
        ),
        (
            pb.DeleteModelRequest(name="nosuch", version="1"),
            "DELETE",
            "/v1/models/nosuch/1",
            None,
        ),
        (pb.GetDatasetRequest(dataset_id=NOBODYS), "GET", f"/v1/datasets/{NOBODYS}", None),
        (pb.DeleteDatasetRequest(dataset_id=NOBODYS), "DELETE", f"/v1/datasets/{NOBODYS}", None),
        (
            pb.CreateDatasetRequest(name="brains", upload_id=NOBODYS),
            "POST",
            "/v1/datasets",
            {"name": "brains", "upload_id": NOBODYS},
        ),
        (
            pb.CreateDatasetRequest(name="No Name"),
            "POST",
            "/v1/datasets",
            {"name": "No Name"},
        ),
        (
            pb.CreateDatasetRequest(name="x", urls=[pb.FileAddress(url="http://10.0.0.1/a.nii")]),
            "POST",
            "/v1/datasets",
            {"name": "x", "urls": [{"url": "http://10.0.0.1/a.nii"}]},
        ),
        (
            pb.WarpRequest(job_id=NOBODYS, inputs=upload_reference(NOBODYS)),
            "POST",
            "/v1/warp",
            {"job_id": NOBODYS, "inputs": {"image": {"upload_id": NOBODYS}}},
        ),
        (pb.WarpRequest(job_id=NOBODYS), "POST", "/v1/warp", {"job_id": NOBODYS}),
        (
            pb.WarpRequest(
                job_id="x",
                inputs={"image": pb.FileReference()},
                interpolation="best",
                ticket=pb.Ticket(queue="train", priority=12),
            ),
            "POST",
            "/v1/warp",
            {
                "priority": 12,
                "queue": "train",
                "job_id": "x",
                "inputs": {"image": {}},
                "options": {"interpolation": "best"},
            },
        ),
        (pb.GetCohortRequest(cohort_id=NOBODYS), "GET", f"/v1/cohorts/{NOBODYS}", None),
        (pb.ListCohortSubjectsRequest(cohort_id=NOBODYS), "GET", f"/v1/cohorts/{NOBODYS}", None),
        (pb.CancelCohortRequest(cohort_id=NOBODYS), "DELETE", f"/v1/cohorts/{NOBODYS}", None),
        (pb.DeleteCohortRequest(cohort_id=NOBODYS), "DELETE", f"/v1/cohorts/{NOBODYS}", None),
        (
            pb.DownloadCohortRequest(cohort_id=NOBODYS, name="cohort.csv"),
            "GET",
            f"/v1/cohorts/{NOBODYS}/cohort.csv",
            None,
        ),
        (
            pb.ListCohortsRequest(page_token="no cursor"),
            "GET",
            "/v1/cohorts?cursor=no%20cursor",
            None,
        ),
        (
            pb.StoreResultRequest(job_id=NOBODYS, pacs="MAIN"),
            "POST",
            f"/v1/jobs/{NOBODYS}/store",
            {"pacs": "MAIN"},
        ),
        (pb.TrainRequest(body_json='{"config": {}}'), "POST", "/v1/train", {"config": {}}),
        (pb.TrainRequest(body_json='{"configs": 1}'), "POST", "/v1/train", {"configs": 1}),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "DESCRIPTOR") else "",
)
def test_a_fault_is_told_as_over_rest(
    rpc: Rpc, message: Any, method: str, url: str, body: dict[str, Any] | None
) -> None:
    name = type(message).__name__.removesuffix("Request")
    over_grpc = refusal(lambda: getattr(rpc.stub, name)(message))
    over_rest = rpc.api.call(method, url, json=body)
    assert is_same(over_grpc, over_rest)
    told = over_rest.json()
    fields = [fault["field"] for fault in told.get("errors", [])] or [told.get("field")]
    assert over_grpc.fields == tuple(filter(None, fields))


def test_results_before_the_end_and_without_one(rpc: Rpc) -> None:
    job = rpc.api.job()
    asked = pb.ListResultsRequest(job_id=job)
    rest = f"/v1/jobs/{job}/results"
    early = refusal(lambda: rpc.stub.ListResults(asked))
    assert is_same(early, rpc.api.get(rest))
    assert early.retry_s == 1.0
    deleting = refusal(lambda: rpc.stub.DeleteJob(pb.DeleteJobRequest(job_id=job)))
    assert (deleting.code, deleting.reason) == ("ABORTED", "conflict")
    rpc.stub.CancelJob(pb.CancelJobRequest(job_id=job))
    assert is_same(refusal(lambda: rpc.stub.ListResults(asked)), rpc.api.get(rest))


def test_an_id_that_is_none_and_a_page_that_is_too_large_are_named(rpc: Rpc) -> None:
    for call, field in (
        (lambda: rpc.stub.GetJob(pb.GetJobRequest(job_id="../x")), "job_id"),
        (lambda: rpc.stub.ListJobs(pb.ListJobsRequest(page_size=201)), "page_size"),
        (lambda: rpc.stub.ListJobs(pb.ListJobsRequest(states=[77])), "states"),
        (
            lambda: rpc.stub.WatchJob(pb.WatchJobRequest(job_id=NOBODYS, after_event=-1)),
            "after_event",
        ),
        (lambda: rpc.stub.Train(pb.TrainRequest(body_json="{}", idempotency_key="k" * 256)), ""),
    ):
        told = refusal(call)
        assert (told.code, told.reason) == ("INVALID_ARGUMENT", "validation-failed")
        assert not field or told.fields == (field,)


def test_without_a_key_there_is_no_way_in(make_rpc: Callable[..., Rpc]) -> None:
    rpc = make_rpc(api_keys=ENTRIES)
    for metadata in (
        (),
        (("authorization", "Bearer wl_expired"),),
        (("authorization", "Basic YTpi"),),
        (("x-api-key", ""),),
    ):
        for call in (
            lambda m=metadata: rpc.stub.ListJobs(pb.ListJobsRequest(), metadata=m),
            lambda m=metadata: rpc.stub.WatchJob(pb.WatchJobRequest(), metadata=m),
            lambda m=metadata: rpc.live.Live(iter(()), metadata=m),
            lambda m=metadata: rpc.channel.unary_unary("/no.Such/Method")(b"", metadata=m),
        ):
            told = refusal(call)
            assert (told.code, told.reason) == ("UNAUTHENTICATED", "unauthenticated")
    assert not rpc.stub.ListJobs(pb.ListJobsRequest(), metadata=bearer("ada")).jobs


def test_anothers_job_is_as_if_it_were_not(make_rpc: Callable[..., Rpc]) -> None:
    rpc = make_rpc(api_keys=ENTRIES)
    headers = {"Authorization": bearer("ada")[0][1]}
    job = rpc.api.register(headers=headers).json()["id"]
    assert rpc.stub.GetJob(pb.GetJobRequest(job_id=job), metadata=bearer("ada")).job.id == job
    for name in ("GetJob", "WatchJob", "CancelJob", "DeleteJob", "ListResults"):
        foreign, nobodys = asked_by_grace(rpc, name, job), asked_by_grace(rpc, name, NOBODYS)
        assert foreign == nobodys
        assert (foreign.code, foreign.reason) == ("NOT_FOUND", "job-not-found")
    assert not rpc.stub.ListJobs(pb.ListJobsRequest(), metadata=bearer("grace")).jobs


def asked_by_grace(rpc: Rpc, name: str, job_id: str) -> Refusal:
    message = getattr(pb, f"{name}Request")(job_id=job_id)
    return refusal(lambda: getattr(rpc.stub, name)(message, metadata=bearer("grace")))


def test_both_faces_share_a_keys_allowance(make_rpc: Callable[..., Rpc]) -> None:
    rpc = make_rpc(requests_per_minute=12)
    rpc.api.app.state.desk.rates.clock = lambda: 0.0  # nothing is given back meanwhile
    for _ in range(5):
        assert rpc.api.get("/v1/limits").status_code == 200
        assert rpc.stub.GetLimits(pb.GetLimitsRequest())
    assert is_same(
        refusal(lambda: rpc.stub.GetLimits(pb.GetLimitsRequest())), rpc.api.get("/v1/limits")
    )


def test_what_is_not_there_and_what_is_no_message_are_told(rpc: Rpc) -> None:
    method = "/warpline.v1.WarplineService/"
    told = refusal(lambda: rpc.channel.unary_unary(f"{method}Nothing")(b""))
    assert (told.code, told.reason) == ("UNIMPLEMENTED", "method-not-allowed")
    told = refusal(lambda: rpc.channel.unary_unary(f"{method}GetJob")(b"\xff\xff\xff"))
    assert (told.code, told.reason) == ("INVALID_ARGUMENT", "validation-failed")


def test_a_message_over_the_limit_is_refused(rpc: Rpc) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        rpc.stub.Train(pb.TrainRequest(body_json=" " * 5 * 2**20))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    told = refusal(lambda: rpc.stub.Train(pb.TrainRequest(body_json=" " * (2**20 + 1))))
    assert (told.code, told.reason) == ("RESOURCE_EXHAUSTED", "body-too-large")


def test_a_thousand_faults_still_fit_into_the_answer(rpc: Rpc) -> None:
    body = json.dumps({f"häufig-{n}": 1 for n in range(1000)})
    told = refusal(lambda: rpc.stub.Train(pb.TrainRequest(body_json=body)))
    assert (told.code, told.reason) == ("INVALID_ARGUMENT", "validation-failed")
    assert len(told.fields) > 5


class Broken:
    """A store of which every method fails."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, _name: str) -> Callable[..., None]:
        def fail(*_args: object, **_options: object) -> None:
            raise self._error

        return fail


def test_a_defect_of_ours_tells_nothing_of_itself(
    rpc: Rpc, caplog: pytest.LogCaptureFixture
) -> None:
    canary = "Erika^Mustermann"
    real = rpc.api.stores.jobs
    object.__setattr__(rpc.api.stores, "jobs", Broken(RuntimeError(f"/data/{canary}.nii")))
    with caplog.at_level(logging.DEBUG):
        told = refusal(lambda: rpc.stub.GetJob(pb.GetJobRequest(job_id=NOBODYS)))
    object.__setattr__(rpc.api.stores, "jobs", real)
    assert (told.code, told.reason) == ("INTERNAL", "internal")
    assert canary not in json.dumps([told.sentence, *told.fields])
    assert canary not in caplog.text
    assert "RuntimeError" in caplog.text


def test_names_reach_neither_log_nor_figures(rpc: Rpc, caplog: pytest.LogCaptureFixture) -> None:
    canary = "CANARY-Mustermann-19701231"
    with caplog.at_level(logging.DEBUG):
        refusal(lambda: rpc.stub.GetJob(pb.GetJobRequest(job_id=canary)))
        refusal(lambda: rpc.stub.Train(pb.TrainRequest(body_json=f'{{"{canary}": 1}}')))
        refusal(lambda: rpc.channel.unary_unary(f"/{canary}/{canary}")(b""))
    figures = rpc.api.get("/metrics").text
    assert 'warpline_grpc_calls_total{code="INVALID_ARGUMENT"' in figures
    assert 'method="unmatched"' in figures
    assert canary not in figures
    ours = [r.getMessage() for r in caplog.records if r.name.startswith(("service", "warpline"))]
    assert ours
    assert not [line for line in ours if canary in line]
