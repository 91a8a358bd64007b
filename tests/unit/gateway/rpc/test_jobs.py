"""Jobs over gRPC: what REST shows of them, followed until they end."""

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import httpx
import pytest

from service.jobs.job import Order, Progress, Queue, State
from service.pb import warpline_pb2 as pb
from tests.unit.gateway.conftest import LEASE, PAIR
from tests.unit.gateway.rpc.conftest import (
    WITHIN_S,
    Rpc,
    begun_before_its_deadline,
    refusal,
)


def watched(rpc: Rpc, job: str, after: int = 0) -> Iterator[pb.WatchJobResponse]:
    return rpc.stub.WatchJob(pb.WatchJobRequest(job_id=job, after_event=after), timeout=WITHIN_S)


def running(rpc: Rpc) -> Any:
    claim = rpc.api.stores.jobs.claim([Queue.INTERACTIVE], "worker-1", LEASE)
    assert claim is not None
    return claim


def beat(rpc: Rpc, claim: Any, stage: str, fraction: float) -> None:
    order = rpc.api.stores.jobs.beat(claim, Progress(stage=stage, fraction=fraction), LEASE)
    assert order is Order.GO_ON


def test_a_job_is_what_rest_shows(rpc: Rpc) -> None:
    first, job = rpc.api.job(), rpc.api.job()
    shown, rest = seen(rpc, job), rpc.api.get(f"/v1/jobs/{job}").json()
    assert (shown.id, shown.kind) == (job, "register")
    assert (shown.state, shown.jobs_before) == (pb.JOB_STATE_QUEUED, 1)
    assert (shown.queue, shown.priority, shown.attempt) == ("interactive", 5, 0)
    assert shown.created_at.ToJsonString()[:19] == rest["created_at"][:19]
    assert shown.deadline_at.ToJsonString()[:19] == rest["deadline_at"][:19]
    assert json.loads(shown.options_json) == rest["options"]
    assert not shown.HasField("started_at")
    assert rpc.api.work() == first
    done, rest = seen(rpc, first), rpc.api.get(f"/v1/jobs/{first}").json()
    assert (done.state, done.progress, done.stage) == (pb.JOB_STATE_SUCCEEDED, 1.0, "succeeded")
    assert json.loads(done.summary_json) == rest["summary"]
    assert done.HasField("finished_at")


def seen(rpc: Rpc, job: str) -> pb.Job:
    return rpc.stub.GetJob(pb.GetJobRequest(job_id=job)).job


def test_every_state_has_its_number() -> None:
    names = {f"JOB_STATE_{state.name}" for state in State} | {"JOB_STATE_UNSPECIFIED"}
    assert set(pb.JobState.keys()) == names


def test_a_failed_job_has_the_problem_that_rest_shows(rpc: Rpc) -> None:
    job, claim = rpc.api.job(), running(rpc)
    problem = {"code": "no-overlap", "title": "T.", "detail": "D.", "field": "moving"}
    assert rpc.api.stores.jobs.end(claim, State.FAILED, problem)
    shown = seen(rpc, job)
    assert shown.state == pb.JOB_STATE_FAILED
    assert shown.problem == pb.Problem(code="no-overlap", title="T.", detail="D.", field="moving")


def test_lists_go_page_by_page_newest_first(rpc: Rpc) -> None:
    jobs = [rpc.api.job() for _ in range(5)]
    rpc.stub.CancelJob(pb.CancelJobRequest(job_id=jobs[2]))
    found, token = [], ""
    while True:
        page = rpc.stub.ListJobs(pb.ListJobsRequest(page_size=2, page_token=token))
        found += [job.id for job in page.jobs]
        if not (token := page.next_page_token):
            break
    assert found == jobs[::-1]
    only = pb.ListJobsRequest(states=[pb.JOB_STATE_CANCELLED])
    assert [job.id for job in rpc.stub.ListJobs(only).jobs] == [jobs[2]]


def test_a_watch_tells_each_event_once_with_progress_between_them(rpc: Rpc) -> None:
    job = rpc.api.job()
    answers = watched(rpc, job)
    first = next(answers).event
    assert (first.number, first.type, first.job.state) == (1, "queued", pb.JOB_STATE_QUEUED)
    claim = running(rpc)
    assert next(answers).event.type == "started"
    beat(rpc, claim, "predict", 0.25)
    event = next(answers).event
    assert (event.type, event.job.stage, event.job.progress) == ("progress", "predict", 0.25)
    beat(rpc, claim, "predict", 0.5)
    progress = next(answers).progress
    assert (progress.stage, progress.progress) == ("predict", 0.5)
    assert rpc.api.stores.jobs.end(claim, State.CANCELLED, None)
    last = next(answers).event
    assert (last.number, last.type, last.job.state) == (4, "cancelled", pb.JOB_STATE_CANCELLED)
    assert list(answers) == []


def test_a_watch_goes_on_after_an_event_and_ends_with_a_job_that_has_ended(rpc: Rpc) -> None:
    job = rpc.api.job()
    rpc.api.work()
    whole = [answer.event for answer in watched(rpc, job)]
    assert [event.type for event in whole] == ["queued", "started", "succeeded"]
    assert json.loads(whole[2].job.summary_json)["verdict"]["status"] == "pass"
    rest = rpc.api.get(f"/v1/jobs/{job}/events", headers={"Accept": "application/json"}).json()
    assert [(one.number, one.type, json.loads(one.data_json)) for one in whole] == [
        (one["seq"], one["type"], one["data"]) for one in rest["events"]
    ]
    assert [answer.event.number for answer in watched(rpc, job, 2)] == [3]
    assert list(watched(rpc, job, 3)) == []
    assert list(watched(rpc, job, 99)) == []


def test_a_watched_job_that_is_deleted_ends_the_watch(rpc: Rpc) -> None:
    job = rpc.api.job()
    rpc.api.work()
    rpc.stub.DeleteJob(pb.DeleteJobRequest(job_id=job))
    told = refusal(lambda: watched(rpc, job))
    assert (told.code, told.reason) == ("NOT_FOUND", "job-not-found")


def test_a_process_that_stops_tells_its_watchers_to_go_on_elsewhere(rpc: Rpc) -> None:
    answers = watched(rpc, rpc.api.job())
    assert next(answers).event.number == 1
    rpc.api.app.state.desk.stopping.set()
    told = refusal(lambda: answers)
    assert (told.code, told.reason, told.retry_s) == ("UNAVAILABLE", "unavailable", 1.0)


def test_cancelling_twice_changes_nothing_and_deleting_takes_the_files(rpc: Rpc) -> None:
    job = rpc.api.job()
    for _ in range(2):
        shown = rpc.stub.CancelJob(pb.CancelJobRequest(job_id=job)).job
        assert shown.state == pb.JOB_STATE_CANCELLED
    rpc.stub.DeleteJob(pb.DeleteJobRequest(job_id=job))
    assert rpc.api.stores.blobs.list("uploads/") == []


def test_results_have_sizes_sums_and_addresses_that_need_no_key(rpc: Rpc) -> None:
    job = rpc.api.job()
    rpc.api.work({"warped.nii.gz": b"warped", "ddf.nii.gz": b"field"})
    files = rpc.stub.ListResults(pb.ListResultsRequest(job_id=job)).files
    assert [(file.name, file.size_bytes) for file in files] == [
        ("ddf.nii.gz", 5),
        ("warped.nii.gz", 6),
    ]
    assert len(files[0].sha256) == 32
    path = httpx.URL(files[1].url).raw_path.decode()
    assert rpc.api.get(path).content == b"warped"


@pytest.mark.parametrize("how", ["cancelled", "deadline"])
def test_a_watch_that_nobody_waits_for_any_more_leaves_nothing_running(rpc: Rpc, how: str) -> None:
    job = rpc.api.job()
    looks = CountedLooks(rpc)

    def begin(timeout_s: float) -> Any:
        answers = rpc.stub.WatchJob(pb.WatchJobRequest(job_id=job), timeout=timeout_s)
        assert next(answers).event.number == 1
        return answers

    if how == "cancelled":
        answers = begin(WITHIN_S)
        answers.cancel()
    else:
        answers = begun_before_its_deadline(begin, soon_s=2.0)
    with pytest.raises(grpc.RpcError) as caught:
        list(answers)
    expected = "CANCELLED" if how == "cancelled" else "DEADLINE_EXCEEDED"
    assert caught.value.code().name == expected
    method = "/warpline.v1.WarplineService/WatchJob"
    wait_for(lambda: f'warpline_grpc_open_calls{{method="{method}"}} 0.0' in figures(rpc))
    assert f'warpline_grpc_calls_total{{code="{expected}",method="{method}"}}' in figures(rpc)
    wait_for(looks.have_ended)


class CountedLooks:
    """Counts how often the job table is asked for a job."""

    def __init__(self, rpc: Rpc) -> None:
        self.count = 0
        self._store = rpc.api.stores.jobs
        object.__setattr__(rpc.api.stores, "jobs", self)

    def have_ended(self) -> bool:
        """Nobody looks any more: each watch does several times meanwhile."""
        before = self.count
        return not threading.Event().wait(0.4) and self.count == before

    def __getattr__(self, name: str) -> Any:
        if name == "job":
            self.count += 1
        return getattr(self._store, name)


def figures(rpc: Rpc) -> str:
    return rpc.api.get("/metrics").text


def wait_for(is_so: Callable[[], bool]) -> None:
    ended = threading.Event()
    for _ in range(int(WITHIN_S / 0.02)):
        if is_so():
            return
        ended.wait(0.02)
    raise AssertionError("it did not come about")


def test_a_hundred_idle_watches_leave_the_others_alone(rpc: Rpc) -> None:
    job = rpc.api.job()
    idle = [watched(rpc, job) for _ in range(100)]
    assert {next(answers).event.number for answers in idle} == {1}
    assert seen(rpc, job).state == pb.JOB_STATE_QUEUED
    assert rpc.api.register(PAIR).status_code == 202
    rpc.api.work()
    for answers in idle:
        told = [answer.event.type for answer in answers if answer.WhichOneof("part") == "event"]
        assert told == ["started", "succeeded"]  # and progress, where it was seen to run
