"""A job that comes with the end of another: on each adapter, both happen or neither does."""

from uuid import uuid4

import pytest

from service.errors import JobNotFoundError
from service.jobs.job import State
from tests.ports.conftest import Bench, new_job
from tests.ports.test_job_store import MANIFEST, add, claim, types


def test_the_job_that_follows_comes_with_the_end_of_the_first_or_not_at_all(bench: Bench) -> None:
    first = add(bench)
    lost = claim(bench)
    bench.clock.forward(31)
    bench.jobs.reap(3)
    bench.clock.forward(10)
    held = claim(bench, "w2")
    then = new_job("alice").model_copy(update={"id": uuid4()})
    assert not bench.jobs.succeed(lost, MANIFEST, then)
    with pytest.raises(JobNotFoundError):
        bench.jobs.job(then.id)
    assert bench.jobs.succeed(held, MANIFEST, then)
    assert not bench.jobs.succeed(held, MANIFEST, then)  # told twice, done once
    follower = bench.jobs.job(then.id)
    assert (follower.state, follower.request) == (State.QUEUED, then.request)
    assert types(bench, follower) == ["queued"]
    assert bench.jobs.job(first.id).state == State.SUCCEEDED
    assert claim(bench).job.id == then.id
