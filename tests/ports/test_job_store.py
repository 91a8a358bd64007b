"""What every job store promises, on each adapter."""

import threading
from datetime import timedelta
from uuid import uuid4

import pytest

from service.errors import (
    ConflictError,
    IdempotencyKeyReusedError,
    JobNotFoundError,
    ValidationError,
)
from service.jobs.job import (
    Claim,
    InputFile,
    Job,
    Kind,
    Manifest,
    Order,
    Progress,
    Queue,
    Request,
    ResultFile,
    State,
)
from tests.ports.conftest import Bench, new_job

LEASE = timedelta(seconds=30)
BOTH = [Queue.INTERACTIVE, Queue.BATCH]
RESULT = ResultFile(key="jobs/a/1/warped.nii.gz", bytes=3, sha256="a" * 64, media_type="x/y")
MANIFEST = Manifest(files={"warped.nii.gz": RESULT}, summary={"verdict": {"status": "pass"}})


def add(bench: Bench, owner: str = "alice", **changes: object) -> Job:
    return bench.jobs.add(new_job(owner, **changes))[0]


def claim(bench: Bench, worker: str = "w1") -> Claim:
    taken = bench.jobs.claim(BOTH, worker, LEASE)
    assert taken is not None
    return taken


def types(bench: Bench, job: Job) -> list[str]:
    events = bench.jobs.events(job.id)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    return [event.type for event in events]


def test_a_job_goes_from_queued_to_running_to_succeeded(bench: Bench) -> None:
    job = add(bench)
    assert (job.state, job.attempt, job.fence) == (State.QUEUED, 0, 0)
    assert (job.deadline_at - job.created_at).total_seconds() == 3600
    taken = claim(bench)
    assert (taken.job.id, taken.fence, taken.job.attempt) == (job.id, 1, 1)
    assert taken.job.state == State.RUNNING
    assert taken.job.lease_until == taken.job.started_at + LEASE
    bench.clock.forward(2)
    assert bench.jobs.succeed(taken, MANIFEST)
    done = bench.jobs.job(job.id)
    assert done.state == State.SUCCEEDED
    assert done.manifest == MANIFEST
    assert done.progress.fraction == 1
    assert (done.finished_at - done.started_at).total_seconds() == 2
    assert types(bench, job) == ["queued", "started", "succeeded"]


def test_what_was_asked_comes_back_unchanged(bench: Bench) -> None:
    new = new_job(queue=Queue.BATCH, priority=0)
    job, replayed = bench.jobs.add(new)
    assert not replayed
    assert bench.jobs.job(job.id) == job
    assert (job.request, job.owner, job.queue, job.priority) == (
        new.request,
        "alice",
        Queue.BATCH,
        0,
    )


def test_another_owners_job_is_not_found(bench: Bench) -> None:
    job = add(bench)
    assert bench.jobs.job(job.id, "alice").id == job.id
    with pytest.raises(JobNotFoundError):
        bench.jobs.job(job.id, "bob")
    with pytest.raises(JobNotFoundError):
        bench.jobs.job(uuid4())
    with pytest.raises(JobNotFoundError):
        bench.jobs.cancel(uuid4())


def test_jobs_are_claimed_by_queue_then_priority_then_age(bench: Bench) -> None:
    late = add(bench, queue=Queue.BATCH, priority=0)
    second = add(bench, priority=5)
    third = add(bench, priority=5)
    first = add(bench, priority=1)
    order = [claim(bench).job.id for _ in range(4)]
    assert order == [first.id, second.id, third.id, late.id]
    assert bench.jobs.claim(BOTH, "w", LEASE) is None


def test_only_the_queues_that_a_worker_serves_are_claimed(bench: Bench) -> None:
    add(bench, queue=Queue.TRAIN)
    assert bench.jobs.claim(BOTH, "w", LEASE) is None
    assert bench.jobs.claim([Queue.TRAIN], "w", LEASE) is not None


def test_an_idempotency_key_replays_its_job_and_no_other_request(bench: Bench) -> None:
    job = add(bench, idempotency_key="k")
    again, replayed = bench.jobs.add(new_job(idempotency_key="k"))
    assert (again.id, replayed) == (job.id, True)
    with pytest.raises(IdempotencyKeyReusedError):
        bench.jobs.add(new_job(idempotency_key="k", request_digest="e" * 64))
    assert bench.jobs.replay("alice", "k", "d" * 64) == job
    assert bench.jobs.replay("bob", "k", "d" * 64) is None
    assert not bench.jobs.add(new_job("bob", idempotency_key="k"))[1]
    assert sum(bench.jobs.counts().values()) == 2


def test_of_many_threads_with_one_key_one_makes_a_job(bench: Bench) -> None:
    answers = []
    start = threading.Barrier(8)

    def submit() -> None:
        start.wait()
        answers.append(bench.jobs.add(new_job(idempotency_key="same")))

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({job.id for job, _ in answers}) == 1
    assert sorted(replayed for _, replayed in answers) == [False] + [True] * 7


def test_of_many_threads_each_job_goes_to_one(bench: Bench) -> None:
    jobs = {add(bench).id for _ in range(24)}
    taken = []

    def work(name: str) -> None:
        while (got := bench.jobs.claim(BOTH, name, LEASE)) is not None:
            taken.append(got.job.id)

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 24
    assert set(taken) == jobs


def test_a_heartbeat_prolongs_the_lease_and_tells_progress(bench: Bench) -> None:
    job = add(bench)
    taken = claim(bench)
    bench.clock.forward(20)
    assert bench.jobs.beat(taken, Progress(stage="refine", fraction=0.5), LEASE) == Order.GO_ON
    bench.clock.forward(20)
    assert bench.jobs.reap(3) == []
    assert bench.jobs.job(job.id).progress == Progress(stage="refine", fraction=0.5)
    bench.jobs.beat(taken, Progress(stage="refine", fraction=0.7), LEASE)
    assert types(bench, job) == ["queued", "started", "progress"]
    assert bench.jobs.events(job.id, after=2)[0].data["stage"] == "refine"


def test_a_silent_workers_job_waits_again_and_the_silent_one_is_fenced_out(bench: Bench) -> None:
    job = add(bench)
    dead = claim(bench)
    bench.clock.forward(31)
    bench.jobs.reap(3)
    assert bench.jobs.job(job.id).state == State.QUEUED
    bench.clock.forward(60)
    alive = claim(bench, "w2")
    assert (alive.fence, alive.job.attempt) == (2, 2)
    before = bench.jobs.job(job.id)
    assert bench.jobs.beat(dead, Progress(stage="x", fraction=0.9), LEASE) == Order.FENCED_OUT
    assert not bench.jobs.succeed(dead, MANIFEST)
    assert not bench.jobs.end(dead, State.FAILED, {"code": "x"})
    assert not bench.jobs.retry(dead, timedelta(0), "x")
    assert bench.jobs.job(job.id) == before
    assert bench.jobs.succeed(alive, MANIFEST)
    assert types(bench, job) == ["queued", "started", "requeued", "started", "succeeded"]


def test_a_lost_job_backs_off_before_it_runs_again(bench: Bench) -> None:
    add(bench)
    claim(bench)
    bench.clock.forward(31)
    bench.jobs.reap(3)
    assert bench.jobs.claim(BOTH, "w", LEASE) is None
    bench.clock.forward(1.1)
    assert bench.jobs.claim(BOTH, "w", LEASE) is not None


def test_a_job_that_kills_its_workers_fails_after_three_tries(bench: Bench) -> None:
    job = add(bench)
    for _ in range(3):
        claim(bench)
        bench.clock.forward(31)
        bench.jobs.reap(3)
        bench.clock.forward(10)
    ended = bench.jobs.job(job.id)
    assert (ended.state, ended.attempt) == (State.FAILED, 3)
    assert ended.problem is not None
    assert ended.problem["code"] == "worker-lost"
    assert bench.jobs.claim(BOTH, "w", LEASE) is None


def test_a_finished_job_never_changes(bench: Bench) -> None:
    job = add(bench)
    taken = claim(bench)
    assert bench.jobs.end(taken, State.FAILED, {"code": "no-contrast"})
    ended = bench.jobs.job(job.id)
    assert not bench.jobs.succeed(taken, MANIFEST)
    assert not bench.jobs.retry(taken, timedelta(0), "x")
    assert bench.jobs.beat(taken, Progress(), LEASE) == Order.FENCED_OUT
    bench.clock.forward(10_000)
    bench.jobs.reap(3)
    assert bench.jobs.cancel(job.id) == ended
    assert bench.jobs.job(job.id) == ended
    assert types(bench, job) == ["queued", "started", "failed"]
    assert bench.jobs.events(job.id)[-1].data == {"code": "no-contrast"}


def test_a_retry_waits_its_delay_and_may_give_the_attempt_back(bench: Bench) -> None:
    job = add(bench)
    assert bench.jobs.retry(claim(bench), timedelta(seconds=8), "store-unavailable")
    assert bench.jobs.claim(BOTH, "w", LEASE) is None
    bench.clock.forward(8.5)
    again = claim(bench)
    assert (again.job.attempt, again.fence) == (2, 2)
    assert bench.jobs.retry(again, timedelta(0), "worker-stopped", counts=False)
    assert bench.jobs.job(job.id).attempt == 1
    assert claim(bench).fence == 3


def test_cancelling_ends_a_waiting_job_and_stops_a_running_one(bench: Bench) -> None:
    waiting = add(bench)
    cancelled = bench.jobs.cancel(waiting.id)
    assert (cancelled.state, cancelled.problem["code"]) == (State.CANCELLED, "job-cancelled")
    assert bench.jobs.claim(BOTH, "w", LEASE) is None
    running = add(bench)
    taken = claim(bench)
    assert bench.jobs.cancel(running.id).state == State.RUNNING
    assert bench.jobs.beat(taken, Progress(), LEASE) == Order.CANCEL
    assert bench.jobs.end(taken, State.CANCELLED, None)
    assert types(bench, running)[-1] == "cancelled"


def test_a_cancelled_job_whose_worker_died_is_cancelled(bench: Bench) -> None:
    job = add(bench)
    claim(bench)
    bench.jobs.cancel(job.id)
    bench.clock.forward(31)
    bench.jobs.reap(3)
    assert bench.jobs.job(job.id).state == State.CANCELLED


def test_a_late_job_expires_waiting_or_running(bench: Bench) -> None:
    waiting = add(bench, deadline_s=50)
    bench.clock.forward(50)
    assert bench.jobs.claim(BOTH, "w", LEASE) is None
    bench.jobs.reap(3)
    assert bench.jobs.job(waiting.id).state == State.EXPIRED
    running = add(bench, deadline_s=50)
    taken = claim(bench)
    bench.clock.forward(51)
    assert bench.jobs.beat(taken, Progress(), LEASE) == Order.EXPIRE
    dead = add(bench, deadline_s=50)
    claim(bench)
    bench.clock.forward(51)
    bench.jobs.reap(3)
    assert bench.jobs.job(dead.id).state == State.EXPIRED
    assert bench.jobs.job(running.id).state == State.EXPIRED


def test_waiting_jobs_are_rung_for_again_ever_more_seldom(bench: Bench) -> None:
    job = add(bench)
    assert bench.jobs.reap(3) == []  # whoever submitted it has just rung
    rung_at = []
    for second in range(1, 61):
        bench.clock.forward(1)
        if bench.jobs.reap(3):
            rung_at.append(second)
    assert rung_at == [5, 10, 20, 40]
    taken = claim(bench)
    bench.clock.forward(25)
    bench.jobs.beat(taken, Progress(), timedelta(hours=1))
    bench.clock.forward(1000)
    assert bench.jobs.reap(3) == []
    bench.jobs.retry(taken, timedelta(seconds=4), "x")
    assert bench.jobs.reap(3) == []
    bench.clock.forward(4)
    assert [rung.id for rung in bench.jobs.reap(3)] == [job.id]


def test_places_count_from_one_and_time_is_guessed_from_recent_jobs(bench: Bench) -> None:
    first, second, other = add(bench), add(bench), add(bench, queue=Queue.BATCH)
    urgent = add(bench, priority=0)
    places = [bench.jobs.place(job.id) for job in (urgent, first, second, other)]
    assert [place.position for place in places if place] == [1, 2, 3, 1]
    assert places[0].seconds_left is None
    taken = claim(bench)
    assert bench.jobs.place(taken.job.id) is None
    bench.clock.forward(10)
    bench.jobs.succeed(taken, MANIFEST)
    assert bench.jobs.place(first.id).seconds_left == 20
    assert bench.jobs.place(second.id).seconds_left == 30


def test_pages_list_newest_first_and_go_on_where_they_ended(bench: Bench) -> None:
    jobs = [add(bench).id for _ in range(7)]
    add(bench, "bob")
    page = bench.jobs.page("alice", limit=3)
    seen = [job.id for job in page.jobs]
    add(bench)  # a newer job does not shift what follows
    while page.cursor is not None:
        page = bench.jobs.page("alice", limit=3, cursor=page.cursor)
        seen += [job.id for job in page.jobs]
    assert seen == jobs[::-1]
    assert len(bench.jobs.page(None).jobs) == 9
    bench.jobs.cancel(jobs[2])
    assert [job.id for job in bench.jobs.page(None, states=[State.CANCELLED]).jobs] == [jobs[2]]
    for cursor in ("nonsense!", "bm9uc2Vuc2U", "'; drop table job", "-1", "é"):
        with pytest.raises(ValidationError):
            bench.jobs.page("alice", cursor=cursor)


def test_counts_are_by_state_and_owner(bench: Bench) -> None:
    for _ in range(3):
        add(bench)
    add(bench, "bob")
    claim(bench)
    assert bench.jobs.counts() == {State.QUEUED: 3, State.RUNNING: 1}
    assert bench.jobs.counts("bob") == {State.QUEUED: 1}
    assert bench.jobs.counts("alice", [State.RUNNING]) == {State.RUNNING: 1}


def warp_of(job: Job, fence: int) -> Request:
    key = f"jobs/{job.id}/{fence}/ddf.nii.gz"
    return Request(kind=Kind.WARP, inputs={"ddf": InputFile(key=key)})


def test_a_finished_job_can_be_forgotten_unless_its_results_are_read(bench: Bench) -> None:
    job = add(bench, idempotency_key="k")
    with pytest.raises(ConflictError):
        bench.jobs.delete(job.id)
    taken = claim(bench)
    bench.jobs.succeed(taken, MANIFEST)
    reader = add(bench, request=warp_of(job, taken.fence))
    with pytest.raises(ConflictError):
        bench.jobs.delete(job.id)
    bench.clock.forward(100)
    assert bench.jobs.forgotten(timedelta(seconds=99)) == []
    bench.jobs.cancel(reader.id)
    assert bench.jobs.forgotten(timedelta(seconds=101)) == []
    assert [old.id for old in bench.jobs.forgotten(timedelta(seconds=99))] == [job.id]
    assert bench.jobs.delete(job.id).manifest == MANIFEST
    assert bench.jobs.events(job.id) == []
    with pytest.raises(JobNotFoundError):
        bench.jobs.job(job.id)
    assert not bench.jobs.add(new_job(idempotency_key="k"))[1]


def test_only_objects_of_the_current_attempt_are_live(bench: Bench) -> None:
    job = add(bench)
    assert bench.jobs.live_keys([f"jobs/{job.id}/0/"]) == set()
    claim(bench)
    asked = [f"jobs/{job.id}/{fence}/" for fence in range(4)]
    assert bench.jobs.live_keys(asked) == {asked[1]}
    bench.clock.forward(31)
    bench.jobs.reap(3)
    assert bench.jobs.live_keys(asked) == set()
    bench.clock.forward(5)
    taken = claim(bench)
    assert bench.jobs.live_keys(asked) == {asked[2]}
    bench.jobs.succeed(taken, MANIFEST)
    assert bench.jobs.live_keys(asked) == {asked[2]}
    bench.jobs.delete(job.id)
    assert bench.jobs.live_keys(asked) == set()


def test_of_all_processes_one_has_its_turn(bench: Bench) -> None:
    every = timedelta(seconds=5)
    assert bench.jobs.take_turn("reap", every)
    assert not bench.jobs.take_turn("reap", every)
    assert bench.jobs.take_turn("sweep", every)
    bench.clock.forward(5)
    assert bench.jobs.take_turn("reap", every)


def test_a_store_that_is_there_answers(bench: Bench) -> None:
    bench.jobs.ping()
