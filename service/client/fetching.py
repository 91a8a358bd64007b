"""Jobs and their results."""

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from uuid import UUID

from service.checksums import sha256_of
from service.client.orders import AnyPath
from service.client.problems import error_of
from service.client.retrying import PATIENT_TRIES, TRIES, answer, pause_s
from service.client.steps import Call, Flow, Lost, Pause, Tell
from service.client.views import Job, JobList, ResultFile, Results
from service.errors import (
    ChecksumMismatchError,
    ConflictError,
    JobCancelledError,
    JobEndedError,
    JobExpiredError,
    ResultNotFoundError,
    SignedUrlError,
    UnavailableError,
)

JobId = UUID | str
FIRST_LOOK_S, LONGEST_LOOK_S = 0.1, 1.0
ENDS: dict[str, type[JobEndedError]] = {
    "cancelled": JobCancelledError,
    "expired": JobExpiredError,
}


def job(job_id: JobId, *, tries: int = TRIES) -> Flow[Job]:
    """The job as it is now."""
    reply = yield from answer(Call("GET", f"/v1/jobs/{job_id}"), tries)
    return Job.model_validate_json(reply.body)


def jobs(
    states: Collection[str] = (), *, limit: int = 50, cursor: str | None = None
) -> Flow[JobList]:
    """A page of your jobs, newest first."""
    wanted = {"state": list(states), "limit": limit, "cursor": cursor}
    query = {name: value for name, value in wanted.items() if value}
    reply = yield from answer(Call("GET", "/v1/jobs", query=query))
    return JobList.model_validate_json(reply.body)


def wait(job_id: JobId) -> Flow[Job]:
    """Tell how the job fares until it has succeeded; a server that told of it may be away.

    Raises:
        WarplineError: Why the job failed, or that it was cancelled or expired.
    """
    tries, pause = TRIES, FIRST_LOOK_S
    while True:
        now = yield from job(job_id, tries=tries)
        tries = PATIENT_TRIES
        yield Tell(now)
        if now.has_ended:
            return require_success(now)
        yield Pause(pause)
        pause = min(LONGEST_LOOK_S, pause * 1.3)


def require_success(ended: Job) -> Job:
    """The job, if it has results.

    Raises:
        WarplineError: Why it has none.
    """
    if ended.state == "succeeded":
        return ended
    if ended.problem:
        raise error_of(ended.problem)
    raise ENDS.get(ended.state, JobEndedError)()


def cancel(job_id: JobId) -> Flow[Job]:
    """Stop a job that waits or runs; one that has ended stays as it is."""
    reply = yield from answer(Call("POST", f"/v1/jobs/{job_id}/cancel"))
    return Job.model_validate_json(reply.body)


def delete(job_id: JobId) -> Flow[None]:
    """Forget a job that has ended, and its results.

    Raises:
        ConflictError: If it has not ended.
    """
    now = yield from job(job_id)
    if not now.has_ended:
        raise ConflictError(f"The job is {now.state}; cancel it first.")
    yield from answer(Call("DELETE", f"/v1/jobs/{job_id}"))


def results(job_id: JobId) -> Flow[Results]:
    """What a job left behind, with URLs that work for a while."""
    reply = yield from answer(Call("GET", f"/v1/jobs/{job_id}/results"))
    return Results.model_validate_json(reply.body)


def download(job_id: JobId, folder: AnyPath, names: Collection[str] = ()) -> Flow[dict[str, Path]]:
    """Fetch all results, or those named, into a folder; a file appears whole, or not at all.

    What a broken download left behind is taken up where it ended.

    Raises:
        ResultNotFoundError: If a name is not among the results.
        ChecksumMismatchError: If a file arrives damaged twice.
    """
    folder = Path(folder)
    found = yield from results(job_id)
    for name in names:
        if name not in found.files:
            there = ", ".join(sorted(found.files))
            raise ResultNotFoundError(f"The job has no result {name}; it has {there}.", field=name)
    folder.mkdir(parents=True, exist_ok=True)
    fetched = {}
    for name in names or found.files:
        target = folder / plain_name(name)
        if not is_whole(target, found.files[name]):
            yield from _fetch(job_id, name, found, target)
        fetched[name] = target
    return fetched


def plain_name(name: str) -> str:
    """A name that stays in its folder."""
    if Path(name).name != name or name.startswith("."):
        raise ResultNotFoundError("The server names a result in a way that is not a file name.")
    return name


def is_whole(file: Path, wanted: ResultFile) -> bool:
    """Whether a file is there, with the size and the sum that it should have."""
    return (
        file.is_file() and file.stat().st_size == wanted.bytes and sha256_of(file) == wanted.sha256
    )


def _fetch(job_id: JobId, name: str, found: Results, target: Path) -> Flow[None]:
    part = target.with_name(target.name + ".part")
    wanted, damaged = found.files[name], 0
    for attempt in range(1, TRIES + 1):
        try:
            yield from _fetch_rest(wanted, part)
        except SignedUrlError:  # its time was up
            wanted = (yield from results(job_id)).files[name]
            continue
        if part.stat().st_size < wanted.bytes:
            yield Pause(pause_s(attempt, None))
        elif is_whole(part, wanted):
            part.replace(target)
            return
        else:
            part.unlink()
            damaged += 1
        if damaged == 2:
            raise ChecksumMismatchError(f"{name} arrived damaged twice.", field=name)
    raise UnavailableError(f"{name} did not arrive whole in {TRIES} tries.")


def _fetch_rest(wanted: ResultFile, part: Path) -> Flow[None]:
    """Append what is missing; returns also when the connection broke on the way."""
    have = part.stat().st_size if part.exists() else 0
    if have > wanted.bytes:
        part.unlink()
        have = 0
    if have == wanted.bytes and have:
        return
    headers = {"range": f"bytes={have}-"} if have else {}
    call = Call("GET", wanted.url, headers=headers, save_to=part)
    reply = yield call
    if isinstance(reply, Lost):
        part.touch()
        return
    if not reply.is_success:
        with suppress(UnavailableError):
            yield from answer(call)
