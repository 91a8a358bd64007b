"""What every store of cohorts promises, on each adapter."""

from datetime import timedelta
from uuid import uuid4

import pytest

from service.errors import CohortNotFoundError, IdempotencyKeyReusedError
from service.jobs.cohorts import Cohort, NewCohort, Subject
from service.jobs.job import InputFile, Kind, Manifest, Queue, Request, State
from tests.ports.conftest import Bench, new_job

LEASE = timedelta(seconds=30)


def new_cohort(*names: str, owner: str = "alice", **changes: object) -> NewCohort:
    subjects = [
        Subject(
            id=name,
            request=Request(
                kind=Kind.REGISTER,
                inputs={
                    "fixed": InputFile(key="uploads/f/data"),
                    "moving": InputFile(key=f"uploads/{name}/data"),
                },
                options={"seed": 3},
            ),
        )
        for name in names
    ]
    values: dict[str, object] = {
        "owner": owner,
        "subjects": subjects,
        "options": {"seed": 3},
        "deadline_s": 600,
    }
    return NewCohort.model_validate(values | changes)


def add(bench: Bench, *names: str, **changes: object) -> Cohort:
    return bench.cohorts.add(new_cohort(*names, **changes))[0]  # type: ignore[arg-type]


def test_a_cohort_is_a_job_for_each_subject_in_their_order(bench: Bench) -> None:
    cohort, jobs, is_replayed = bench.cohorts.add(new_cohort("b", "a", "c"))
    assert not is_replayed
    assert (cohort.subjects, cohort.counts, cohort.options) == (3, {State.QUEUED: 3}, {"seed": 3})
    members = bench.cohorts.members(cohort.id, "alice")
    assert [member.subject for member in members] == ["b", "a", "c"]
    assert [member.job for member in members] == jobs
    assert [job.request.inputs["moving"].key for job in jobs] == [
        *("uploads/b/data", "uploads/a/data", "uploads/c/data"),
    ]
    assert {job.queue for job in jobs} == {Queue.BATCH}
    assert not cohort.has_ended
    claim = bench.jobs.claim([Queue.BATCH], "w", LEASE)
    assert claim is not None
    assert claim.job.id == jobs[0].id
    assert bench.jobs.events(jobs[2].id)[0].type == "queued"


def test_other_owners_have_other_cohorts(bench: Bench) -> None:
    cohort = add(bench, "a")
    assert bench.cohorts.cohort(cohort.id, "alice") == cohort
    for ask in (bench.cohorts.cohort, bench.cohorts.members, bench.cohorts.cancel):
        with pytest.raises(CohortNotFoundError):
            ask(cohort.id, "bob")
    with pytest.raises(CohortNotFoundError):
        bench.cohorts.forget(uuid4(), "alice")
    assert bench.cohorts.page("bob").cohorts == []


def test_an_idempotency_key_replays_its_cohort_and_no_other(bench: Bench) -> None:
    cohort = add(bench, "a", "b", idempotency_key="k")
    again, jobs, is_replayed = bench.cohorts.add(new_cohort("a", "b", idempotency_key="k"))
    assert (again, jobs, is_replayed) == (cohort, [], True)
    assert bench.cohorts.replay("alice", "k", new_cohort("a", "b").digest) == cohort
    assert bench.cohorts.replay("bob", "k", new_cohort("a", "b").digest) is None
    for other in (("a",), ("b", "a"), ("a", "x")):
        with pytest.raises(IdempotencyKeyReusedError):
            bench.cohorts.add(new_cohort(*other, idempotency_key="k"))
    assert sum(bench.jobs.counts().values()) == 2
    assert not bench.cohorts.add(new_cohort("a", "b", owner="bob", idempotency_key="k"))[2]


def test_cancelling_ends_what_waits_and_asks_what_runs(bench: Bench) -> None:
    bench.jobs.add(new_job(queue=Queue.BATCH, priority=9))
    cohort = add(bench, "done", "runs", "waits", "waits-too")
    done, runs = (bench.jobs.claim([Queue.BATCH], "w", LEASE) for _ in range(2))
    assert done is not None
    assert runs is not None
    assert bench.jobs.succeed(done, Manifest(files={}))
    cancelled = bench.cohorts.cancel(cohort.id, "alice")
    assert cancelled.counts == {State.SUCCEEDED: 1, State.RUNNING: 1, State.CANCELLED: 2}
    members = bench.cohorts.members(cohort.id, "alice")
    assert [member.job.cancel_requested for member in members] == [False, True, False, False]
    assert members[2].job.problem is not None
    assert members[2].job.problem["code"] == "job-cancelled"
    assert bench.jobs.end(runs, State.CANCELLED, members[2].job.problem)
    assert bench.cohorts.cohort(cohort.id, "alice").has_ended
    assert bench.jobs.counts(states=[State.QUEUED]) == {State.QUEUED: 1}


def test_pages_are_newest_first_and_leave_out_what_is_empty(bench: Bench) -> None:
    made = [add(bench, f"s{number}") for number in range(5)]
    bench.cohorts.cancel(made[2].id, "alice")
    bench.jobs.delete(bench.cohorts.members(made[2].id, "alice")[0].job.id)
    assert bench.cohorts.cohort(made[2].id, "alice").counts == {}
    first = bench.cohorts.page("alice", limit=3)
    assert [found.id for found in first.cohorts] == [made[4].id, made[3].id, made[1].id]
    rest = bench.cohorts.page("alice", limit=3, cursor=first.cursor)
    assert ([found.id for found in rest.cohorts], rest.cursor) == ([made[0].id], None)


def test_a_forgotten_cohort_leaves_its_jobs_and_frees_its_key(bench: Bench) -> None:
    cohort = add(bench, "a", idempotency_key="k")
    job = bench.cohorts.members(cohort.id, "alice")[0].job
    bench.cohorts.forget(cohort.id, "alice")
    with pytest.raises(CohortNotFoundError):
        bench.cohorts.cohort(cohort.id, "alice")
    assert bench.jobs.job(job.id) == job
    assert not bench.cohorts.add(new_cohort("other", idempotency_key="k"))[2]


def test_the_inputs_of_waiting_subjects_are_kept(bench: Bench) -> None:
    upload = bench.uploads.open("alice", 3, timedelta(seconds=60))
    prefix = f"uploads/{upload.id}/"
    new = new_cohort("a")
    inputs = {"fixed": InputFile(key=upload.key), "moving": InputFile(key=upload.key)}
    request = new.subjects[0].request.model_copy(update={"inputs": inputs})
    subject = new.subjects[0].model_copy(update={"request": request})
    cohort, _, _ = bench.cohorts.add(new.model_copy(update={"subjects": [subject]}))
    bench.uploads.delete(upload.id)
    assert bench.jobs.live_keys([prefix]) == {prefix}
    bench.cohorts.cancel(cohort.id, "alice")
    assert bench.jobs.live_keys([prefix]) == set()
