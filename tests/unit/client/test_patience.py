"""How long the clients try: seconds for a first answer, minutes for a job that was accepted."""

from collections.abc import Generator, Iterable
from datetime import UTC, datetime
from itertools import repeat
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from service.client import cohorts, fetching, rpc_cohorts, rpc_flows
from service.client.events import EventFeed
from service.client.orders import Order
from service.client.retrying import PATIENT_TRIES, TRIES
from service.client.rpc_steps import Ask, Ended, Failed
from service.client.rpc_talks import RegisterTalk, WatchTalk
from service.client.steps import Lost, Pause, Reply, Tell
from service.client.views import Job
from service.errors import InternalError, UnavailableError
from service.pb import warpline_pb2 as pb

ID = UUID(int=7)
AWAY = Lost("refused")
RPC_AWAY = Failed(UnavailableError("refused"), is_lost=True)
MINUTES = (150, 450)  # seconds; a half of each pause is left to chance


class Went(NamedTuple):
    """What became of a flow."""

    result: Any
    tries: int
    waited_s: float


def drive(flow: Generator[Any, Any, Any], answers: Iterable[Any]) -> Went:
    """Carry out a flow without a network and without sleeping; an answer may see what asks."""
    left, outcome, tries, waited_s = iter(answers), None, 0, 0.0
    while True:
        try:
            step = flow.send(outcome)
        except StopIteration as end:
            return Went(end.value, tries, waited_s)
        except UnavailableError as error:
            return Went(error, tries, waited_s)
        outcome = None
        if isinstance(step, Pause):
            waited_s += step.seconds
        elif not isinstance(step, Tell):
            tries += 1
            outcome = next(left)
            outcome = outcome(step) if callable(outcome) else outcome
            if isinstance(outcome, Failed) and not isinstance(step, Ask):
                step.failure = outcome


def told(state: str) -> Reply:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    job = Job(id=ID, kind="register", state=state, stage="", fraction=0.5, created_at=now)
    return Reply(200, {}, job.model_dump_json().encode())


def rpc_job(state: int) -> pb.Job:
    job = pb.Job(id=str(ID), kind="register", state=state)
    job.created_at.GetCurrentTime()
    return job


RUNNING, SUCCEEDED = rpc_job(pb.JOB_STATE_RUNNING), rpc_job(pb.JOB_STATE_SUCCEEDED)


def watched(number: int, job: pb.Job) -> Any:
    """A stream that tells one event, and breaks if the job goes on."""

    def answer(talk: WatchTalk) -> Ended | Failed:
        talk.take(pb.WatchJobResponse(event=pb.JobEvent(number=number, job=job)))
        return Ended() if talk.has_ended else RPC_AWAY

    return answer


def accepted_and_broken(talk: RegisterTalk) -> Failed:
    talk.take(pb.RegisterResponse(accepted=pb.JobAccepted(job=RUNNING)))
    return RPC_AWAY


def is_minutes(waited_s: float) -> bool:
    return MINUTES[0] < waited_s < MINUTES[1]


FIRST = {
    "wait": (fetching.wait(ID), AWAY),
    "job": (fetching.job(ID), AWAY),
    "cohort": (cohorts.cohort(ID), AWAY),
    "grpc wait": (rpc_flows.wait_for(str(ID)), RPC_AWAY),
    "grpc job": (rpc_flows.job(ID), RPC_AWAY),
    "grpc cohort": (rpc_cohorts.cohort(ID), RPC_AWAY),
}


@pytest.mark.parametrize("asked", FIRST)
def test_a_server_that_was_never_heard_is_given_up_within_seconds(asked: str) -> None:
    flow, away = FIRST[asked]
    went = drive(flow, repeat(away))
    assert isinstance(went.result, UnavailableError)
    assert went.tries == TRIES
    assert went.waited_s < 16


def test_who_waits_for_a_job_bears_minutes_without_its_server() -> None:
    away = [AWAY] * (PATIENT_TRIES - 1)
    twice = [told("running"), *away, told("running"), *away, told("succeeded")]
    went = drive(fetching.wait(ID), twice)
    assert went.result.state == "succeeded"
    assert is_minutes(went.waited_s / 2)


def test_who_watches_a_job_by_grpc_does_so_too() -> None:
    away = [RPC_AWAY] * (PATIENT_TRIES - 2)
    breaks = [watched(1, RUNNING), *away, watched(2, RUNNING), *away, watched(3, SUCCEEDED)]
    found = [*[RPC_AWAY] * (PATIENT_TRIES - 1), pb.GetJobResponse(job=SUCCEEDED)]
    went = drive(rpc_flows.wait_for(str(ID)), [*breaks, *found])
    assert went.result.state == "succeeded"
    assert is_minutes(went.waited_s / 3)


def test_a_registration_that_was_accepted_is_followed_as_patiently() -> None:
    order = Order(path="register", files={}, options={}, envelope={}, idempotency_key="once")
    away = [RPC_AWAY] * (PATIENT_TRIES - 1)
    answers = [accepted_and_broken, *away, watched(1, SUCCEEDED), pb.GetJobResponse(job=SUCCEEDED)]
    went = drive(rpc_flows.register(order, wait=True), answers)
    assert went.result.state == "succeeded"
    assert is_minutes(went.waited_s)


@pytest.mark.parametrize(
    ("flow", "answers"),
    [
        (fetching.wait(ID), [told("running"), *repeat(AWAY, 99)]),
        (cohorts.cohort(ID, tries=PATIENT_TRIES), repeat(AWAY)),
        (rpc_flows.wait_for(str(ID)), [watched(1, RUNNING), *repeat(RPC_AWAY, 99)]),
        (rpc_cohorts.cohort(ID, tries=PATIENT_TRIES), repeat(RPC_AWAY)),
    ],
    ids=["wait", "cohort", "grpc wait", "grpc cohort"],
)
def test_patience_ends(flow: Generator[Any, Any, Any], answers: Iterable[Any]) -> None:
    went = drive(flow, answers)
    assert isinstance(went.result, UnavailableError)
    assert is_minutes(went.waited_s)


@pytest.mark.parametrize(("lines", "tries"), [([], TRIES), ([": still here"], PATIENT_TRIES)])
def test_a_stream_of_events_that_was_heard_is_sought_for_minutes(
    lines: list[str], tries: int
) -> None:
    feed, failure = EventFeed(ID), UnavailableError()
    for line in lines:
        feed.take(line)
    pauses = [feed.pause_s(failure) for _ in range(tries - 1)]
    with pytest.raises(UnavailableError):
        feed.pause_s(failure)
    assert is_minutes(sum(pauses)) == bool(lines)


def test_a_refused_stream_of_events_is_not_sought_again() -> None:
    with pytest.raises(InternalError):
        EventFeed(ID).pause_s(InternalError())
