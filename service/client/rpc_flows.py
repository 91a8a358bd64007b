"""What the gRPC client does, step by step, again where a connection broke."""

import json
from collections.abc import Collection
from datetime import timedelta
from pathlib import Path
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from service.client.fetching import JobId, is_whole, plain_name, require_success
from service.client.orders import AnyPath, Order
from service.client.retrying import PATIENT_TRIES, TRIES, Patience, pause_s
from service.client.rpc_sending import FileSending, Sending, SentBytes
from service.client.rpc_steps import Ask, Failed, RpcFlow
from service.client.rpc_talks import DownloadTalk, Progress, RegisterTalk, UploadTalk, WatchTalk
from service.client.rpc_views import (
    STATE_NUMBERS,
    job_of,
    result_file_of,
    results_of,
    upload_of,
)
from service.client.steps import Pause
from service.client.views import Job, JobList, Limits, ResultFile, Results, Upload
from service.errors import (
    ChecksumMismatchError,
    ConflictError,
    InvalidRequestError,
    LimitError,
    ResultNotFoundError,
    UnavailableError,
    UploadNotFoundError,
)
from service.pb import warpline_pb2 as pb


def answer(method: str, request: Message, tries: int = TRIES) -> RpcFlow[Any]:
    """The answer to one request, tried again while that may help.

    Args:
        method: What is asked.
        request: And with which words.
        tries: How often; `PATIENT_TRIES` of what the server had accepted.

    Raises:
        WarplineError: What the server's status says.
        UnavailableError: If there was no answer after several tries.
    """
    attempt = 0
    while True:
        outcome = yield Ask(method, request)
        if not isinstance(outcome, Failed):
            return outcome
        attempt += 1
        yield from pause_after(outcome, attempt, tries)


def pause_after(failure: Failed | None, attempt: int, tries: int = TRIES) -> RpcFlow[None]:
    """Wait before another try; None: a stream ended early, and nobody said why.

    Raises:
        WarplineError: If another try makes no sense.
    """
    failure = failure or Failed(UnavailableError("The stream ended early."), is_lost=True)
    error = failure.error
    is_worth_it = failure.is_lost or (
        error.retryable and isinstance(error, UnavailableError | LimitError)
    )
    if not is_worth_it or attempt >= tries:
        raise error
    yield Pause(pause_s(attempt, error.retry_after_s))


def register(
    order: Order,
    *,
    wait: bool = False,
    progress: Progress | None = None,
    sent: SentBytes | None = None,
) -> RpcFlow[Job]:
    """Send a pair and make a job of it; with `wait`, follow it until it has succeeded."""
    sending = Sending([FileSending(role, path) for role, path in order.files.items()], sent)
    return (yield from sent_as(register_start(order), sending, wait=wait, progress=progress))


def sent_as(
    start: pb.RegisterStart,
    sending: Sending,
    *,
    wait: bool = False,
    progress: Progress | None = None,
) -> RpcFlow[Job]:
    """Send what a job needs and make it, in one stream or, when that breaks, in several."""
    safe, attempt = 0, 0
    while True:
        talk = RegisterTalk(start, sending, follow=wait, progress=progress)
        yield talk
        if talk.job is not None:
            break
        attempt = 1 if sending.safe_bytes > safe else attempt + 1
        safe = sending.safe_bytes
        yield from _mend(talk.failure, sending, attempt)
    if not wait:
        return talk.job
    if talk.has_result or talk.job.has_ended:
        return require_success(talk.job)
    return (yield from wait_for(str(talk.job.id), talk.last_event, progress, PATIENT_TRIES))


def register_start(order: Order) -> pb.RegisterStart:
    """What an order says besides its files.

    Raises:
        InvalidRequestError: If there is no option of a name, or no such value.
    """
    options, ticket = options_of(order), ticket_of(order)
    return pb.RegisterStart(options=options, ticket=ticket, delivery=pb.DELIVERY_URLS)


def options_of(order: Order) -> pb.RegisterOptions:
    """Choices about a registration.

    Raises:
        InvalidRequestError: If there is no option of a name, or no such value.
    """
    options = dict(order.options)
    if "refine" in options:
        options["refine"] = str(options["refine"])
    try:
        return pb.RegisterOptions(**options)
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"An option cannot be: {error}.", field="options") from None


def ticket_of(order: Order) -> pb.Ticket:
    """How an order is queued."""
    given = dict(order.envelope)
    ticket = pb.Ticket(queue=given.get("queue", ""), idempotency_key=order.idempotency_key)
    if "priority" in given:
        ticket.priority = given["priority"]
    if "deadline_s" in given:
        ticket.deadline.CopyFrom(_duration(given["deadline_s"]))
    return ticket


def _duration(seconds: float) -> Duration:
    made = Duration()
    made.FromTimedelta(timedelta(seconds=seconds))
    return made


def _mend(failure: Failed | None, sending: Sending, attempt: int) -> RpcFlow[None]:
    """Make ready for another stream after one that broke."""
    if failure is not None and isinstance(failure.error, UploadNotFoundError):
        sending.forget()
        failure = Failed(failure.error, is_lost=True)
    elif failure is not None and isinstance(failure.error, ChecksumMismatchError):
        failure = Failed(failure.error, is_lost=attempt < 3)  # on the way; what was safe still is
    yield from pause_after(failure, attempt)


def upload(path: Path, sent: SentBytes | None = None) -> RpcFlow[Upload]:
    """Send one file, from its last safe byte when the connection breaks."""
    file = FileSending("", path)
    sending = Sending([file], sent)
    safe, attempt = 0, 0
    while not sending.is_complete:
        talk = UploadTalk(sending)
        yield talk
        if not sending.is_complete:
            attempt = 1 if sending.safe_bytes > safe else attempt + 1
            safe = sending.safe_bytes
            yield from _mend(talk.failure, sending, attempt)
    return upload_of(file.upload_id, file.size_bytes, file.safe_bytes, is_complete=True)


def wait_for(
    job_id: str, after: int = 0, progress: Progress | None = None, tries: int = TRIES
) -> RpcFlow[Job]:
    """Follow a job until it has succeeded.

    Args:
        job_id: Which.
        after: The last event that was heard.
        progress: Called with the job whenever it is told.
        tries: How often the server is tried until it has told of the job.

    Raises:
        WarplineError: Why the job failed, or that it was cancelled or expired.
    """
    patience = Patience(tries)
    while True:
        talk = WatchTalk(job_id, after, progress)
        yield talk
        if talk.has_ended:
            return require_success((yield from job(job_id, tries=PATIENT_TRIES)))
        after = talk.after
        yield from pause_after_watch(talk, patience)


def pause_after_watch(talk: WatchTalk, patience: Patience) -> RpcFlow[None]:
    """Wait before a job is watched on.

    Raises:
        WarplineError: If another try makes no sense.
    """
    if talk.job is not None:
        patience.heard()
    patience.failures += 1
    yield from pause_after(talk.failure, patience.failures, patience.tries)


def warp(order: Order) -> RpcFlow[Job]:
    """Order that a transform is applied to more files, which are sent first."""
    inputs = {}
    for role, path in order.files.items():
        inputs[role] = pb.FileReference(upload_id=str((yield from upload(path)).id))
    request = pb.WarpRequest(
        job_id=order.envelope["job_id"],
        inputs=inputs,
        points_from=order.envelope.get("from", ""),
        ticket=ticket_of(order),
        **order.options,
    )
    return job_of((yield from answer("Warp", request)).job)


def job(job_id: JobId, *, tries: int = TRIES) -> RpcFlow[Job]:
    """The job as it is now."""
    return job_of((yield from answer("GetJob", pb.GetJobRequest(job_id=str(job_id)), tries)).job)


def jobs(
    states: Collection[str] = (), *, limit: int = 50, cursor: str | None = None
) -> RpcFlow[JobList]:
    """A page of your jobs, newest first."""
    wanted = [STATE_NUMBERS[str(state)] for state in states]
    request = pb.ListJobsRequest(states=wanted, page_size=limit, page_token=cursor or "")
    page = yield from answer("ListJobs", request)
    return JobList(jobs=[job_of(found) for found in page.jobs], cursor=page.next_page_token or None)


def cancel(job_id: JobId) -> RpcFlow[Job]:
    """Stop a job that waits or runs; one that has ended stays as it is."""
    return job_of((yield from answer("CancelJob", pb.CancelJobRequest(job_id=str(job_id)))).job)


def delete(job_id: JobId) -> RpcFlow[None]:
    """Forget a job that has ended, and its results.

    Raises:
        ConflictError: If it has not ended.
    """
    now = yield from job(job_id)
    if not now.has_ended:
        raise ConflictError(f"The job is {now.state}; cancel it first.")
    yield from answer("DeleteJob", pb.DeleteJobRequest(job_id=str(job_id)))


def results(job_id: JobId) -> RpcFlow[Results]:
    """The files that a job left behind, with URLs that work for a while."""
    found = yield from answer("ListResults", pb.ListResultsRequest(job_id=str(job_id)))
    return results_of(str(job_id), found, (yield from job(job_id)))


def download(
    job_id: JobId, folder: AnyPath, names: Collection[str] = ()
) -> RpcFlow[dict[str, Path]]:
    """Fetch all results, or those named, into a folder; a file appears whole, or not at all.

    Raises:
        ResultNotFoundError: If a name is not among the results.
        ChecksumMismatchError: If a file arrives damaged twice.
    """
    folder = Path(folder)
    listed = yield from answer("ListResults", pb.ListResultsRequest(job_id=str(job_id)))
    files = {file.name: result_file_of(file) for file in listed.files}
    for name in names:
        if name not in files:
            there = ", ".join(sorted(files))
            raise ResultNotFoundError(f"The job has no result {name}; it has {there}.", field=name)
    folder.mkdir(parents=True, exist_ok=True)
    fetched = {}
    for name in names or files:
        fetched[name] = folder / plain_name(name)
        if not is_whole(fetched[name], files[name]):
            yield from _fetch(str(job_id), name, files[name], fetched[name])
    return fetched


def _fetch(job_id: str, name: str, wanted: ResultFile, target: Path) -> RpcFlow[None]:
    part = target.with_name(target.name + ".part")
    attempt = damaged = 0
    while not is_whole(part, wanted):
        have = _bytes(part)
        if have >= wanted.bytes and part.exists():  # all of it, and not what it should be
            part.unlink()
            damaged, have = damaged + 1, 0
        if damaged == 2:
            raise ChecksumMismatchError(f"{name} arrived damaged twice.", field=name)
        talk = DownloadTalk(job_id, name, part)
        yield talk
        attempt = 1 if _bytes(part) > have else attempt + 1
        failure = talk.failure
        if failure is not None and isinstance(failure.error, ChecksumMismatchError):
            failure = Failed(failure.error, is_lost=True)
        if failure is not None or attempt > TRIES:
            yield from pause_after(failure, attempt)
    part.replace(target)


def _bytes(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def limits() -> RpcFlow[Limits]:
    """What the server accepts."""
    found = yield from answer("GetLimits", pb.GetLimitsRequest())
    return Limits.model_validate(json.loads(found.limits_json) | {"has_live": found.has_live})
