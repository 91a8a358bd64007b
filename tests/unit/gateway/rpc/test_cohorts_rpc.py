"""Cohorts over gRPC: ordered, looked at, read and ended as over REST."""

import hashlib
import json
import zlib
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from service.gateway.rpc import cohorts
from service.jobs.job import Queue
from service.pb import warpline_pb2 as pb
from tests.unit.gateway.conftest import Api, volume
from tests.unit.gateway.rpc.conftest import ENTRIES, Rpc, bearer, refusal


def sent(api: Api, seed: int) -> pb.FileReference:
    return pb.FileReference(upload_id=api.upload(volume(seed=seed)))


def order(api: Api, *names: str, **more: Any) -> pb.CreateCohortRequest:
    subjects = [
        pb.SubjectOrder(id=name, inputs={"moving": sent(api, 10 + number)})
        for number, name in enumerate(names)
    ]
    return pb.CreateCohortRequest(inputs={"fixed": sent(api, 1)}, subjects=subjects, **more)


def subjects_of(rpc: Rpc, cohort_id: str) -> list[pb.CohortSubject]:
    asked = pb.ListCohortSubjectsRequest(cohort_id=cohort_id)
    return [one for some in rpc.stub.ListCohortSubjects(asked) for one in some.subjects]


def counts_of(cohort: pb.Cohort) -> dict[str, int]:
    return {pb.JobState.Name(one.state): one.jobs for one in cohort.counts}


def test_a_cohort_is_made_and_shown_as_over_rest(rpc: Rpc) -> None:
    options = pb.RegisterOptions(refine="none", seed=3)
    ticket = pb.Ticket(priority=2, idempotency_key="once")
    made = rpc.stub.CreateCohort(order(rpc.api, "b", "a", options=options, ticket=ticket))
    told = made.cohort
    rest = rpc.api.get(f"/v1/cohorts/{told.id}").json()
    assert (told.subject_count, told.has_ended, told.progress) == (2, False, 0.0)
    assert counts_of(told) == {"JOB_STATE_QUEUED": 2}
    assert json.loads(told.options_json) == rest["options"]
    assert rest["options"]["seed"] == 3
    assert told.created_at.ToJsonString()[:19] == rest["created_at"][:19]
    rows = [(one.job_id, json.loads(one.figures_json)) for one in subjects_of(rpc, told.id)]
    assert rows == [(one["job_id"], one["figures"]) for one in rest["table"]]
    job = rpc.api.stores.jobs.job(UUID(rows[0][0]))
    assert (job.queue, job.priority) == (Queue.BATCH, 2)
    again = rpc.stub.CreateCohort(order(rpc.api, "b", "a", options=options, ticket=ticket))
    assert (again.is_replayed, made.is_replayed) == (True, False)
    assert again.cohort.id == told.id
    other = order(rpc.api, "c", ticket=ticket)
    assert refusal(lambda: rpc.stub.CreateCohort(other)).reason == "idempotency-key-reused"


def test_figures_come_as_jobs_end_and_in_three_files(rpc: Rpc) -> None:
    made = rpc.stub.CreateCohort(order(rpc.api, "good", "later")).cohort
    rpc.api.work()
    now = rpc.stub.GetCohort(pb.GetCohortRequest(cohort_id=made.id)).cohort
    assert counts_of(now) == {"JOB_STATE_SUCCEEDED": 1, "JOB_STATE_QUEUED": 1}
    assert now.progress == 0.5
    assert now.HasField("time_left")
    figures = [json.loads(one.figures_json) for one in subjects_of(rpc, made.id)]
    assert [(one["state"], one["ncc_after"]) for one in figures] == [
        ("done", 0.9),
        ("waiting", None),
    ]
    for name in ("cohort.json", "cohort.csv", "cohort.html"):
        rest = rpc.api.get(f"/v1/cohorts/{made.id}/{name}")
        file, data = downloaded(rpc, made.id, name)
        assert file.media_type == rest.headers["content-type"]
        assert (file.size_bytes, file.sha256) == (len(data), hashlib.sha256(data).digest())
        is_json = name.endswith("json")
        assert json.loads(data) == rest.json() if is_json else data.decode() == rest.text


def downloaded(rpc: Rpc, cohort_id: str, name: str) -> tuple[pb.ResultFile, bytes]:
    asked = pb.DownloadCohortRequest(cohort_id=cohort_id, name=name)
    first, *rest = rpc.stub.DownloadCohort(asked)
    data = b""
    for answer in rest:
        assert (answer.chunk.offset, answer.chunk.name) == (len(data), name)
        assert answer.chunk.crc32 == zlib.crc32(answer.chunk.data)
        data += answer.chunk.data
    return first.file, data


def test_many_subjects_come_in_several_messages(rpc: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cohorts, "SUBJECTS_A_MESSAGE", 2)
    made = rpc.stub.CreateCohort(order(rpc.api, *"abcde")).cohort
    some = list(rpc.stub.ListCohortSubjects(pb.ListCohortSubjectsRequest(cohort_id=made.id)))
    assert [[one.id for one in message.subjects] for message in some] == [
        ["a", "b"],
        ["c", "d"],
        ["e"],
    ]


def test_cohorts_are_listed_cancelled_and_forgotten(rpc: Rpc) -> None:
    made = [rpc.stub.CreateCohort(order(rpc.api, name)).cohort.id for name in "ab"]
    page = rpc.stub.ListCohorts(pb.ListCohortsRequest(page_size=1))
    rest = rpc.stub.ListCohorts(pb.ListCohortsRequest(page_token=page.next_page_token))
    assert [one.id for one in (*page.cohorts, *rest.cohorts)] == made[::-1]
    assert rest.next_page_token == ""
    early = refusal(lambda: rpc.stub.DeleteCohort(pb.DeleteCohortRequest(cohort_id=made[0])))
    assert (early.code, early.reason) == ("ABORTED", "conflict")
    stopped = rpc.stub.CancelCohort(pb.CancelCohortRequest(cohort_id=made[0])).cohort
    assert (counts_of(stopped), stopped.has_ended) == ({"JOB_STATE_CANCELLED": 1}, True)
    rpc.stub.DeleteCohort(pb.DeleteCohortRequest(cohort_id=made[0]))
    gone = refusal(lambda: rpc.stub.GetCohort(pb.GetCohortRequest(cohort_id=made[0])))
    assert (gone.code, gone.reason) == ("NOT_FOUND", "cohort-not-found")


@pytest.mark.parametrize("name", ["nothing.txt", ""])
def test_a_file_that_no_cohort_has_is_told(rpc: Rpc, name: str) -> None:
    made = rpc.stub.CreateCohort(order(rpc.api, "a")).cohort
    asked = pb.DownloadCohortRequest(cohort_id=made.id, name=name)
    told = refusal(lambda: rpc.stub.DownloadCohort(asked))
    assert (told.reason, told.fields) == ("result-not-found", ("name",))


def test_faults_of_an_order_are_those_of_rest(rpc: Rpc) -> None:
    nobodys = str(uuid4())
    told = refusal(
        lambda: rpc.stub.CreateCohort(
            pb.CreateCohortRequest(
                inputs={"fixed_mask": pb.FileReference(upload_id=nobodys)},
                subjects=[pb.SubjectOrder(id="a"), pb.SubjectOrder(id="a")],
            )
        )
    )
    rest = rpc.api.post(
        "/v1/cohorts",
        json={
            "inputs": {"fixed_mask": {"upload_id": nobodys}},
            "subjects": [{"id": "a", "inputs": {}}, {"id": "a", "inputs": {}}],
        },
    ).json()
    assert (told.reason, told.sentence) == (rest["code"], rest["detail"])
    assert list(told.fields) == [fault["field"] for fault in rest["errors"]]
    assert "/subjects/1/id" in told.fields


def test_limits_of_a_key_count_every_subject(make_rpc: Callable[..., Rpc]) -> None:
    rpc = make_rpc(max_jobs_per_key=3)
    told = refusal(lambda: rpc.stub.CreateCohort(order(rpc.api, *"abcd")))
    assert (told.code, told.reason) == ("RESOURCE_EXHAUSTED", "quota-exceeded")
    assert told.retry_s is not None
    assert rpc.api.stores.jobs.counts() == {}


def test_anothers_cohort_is_as_if_it_were_not(make_rpc: Callable[..., Rpc]) -> None:
    rpc = make_rpc(api_keys=ENTRIES)
    ada = {"Authorization": bearer("ada")[0][1]}
    upload = rpc.api.post("/v1/uploads", json={"bytes": 1}, headers=ada).json()["id"]
    for stub_call, message in (
        ("GetCohort", pb.GetCohortRequest),
        ("ListCohortSubjects", pb.ListCohortSubjectsRequest),
        ("CancelCohort", pb.CancelCohortRequest),
        ("DeleteCohort", pb.DeleteCohortRequest),
        ("DownloadCohort", pb.DownloadCohortRequest),
    ):
        asked = message(cohort_id=upload)
        told = refusal(lambda: getattr(rpc.stub, stub_call)(asked, metadata=bearer("grace")))  # noqa: B023
        assert (told.code, told.reason) == ("NOT_FOUND", "cohort-not-found")
        told = refusal(lambda: getattr(rpc.stub, stub_call)(asked))  # noqa: B023
        assert told.reason == "unauthenticated"
