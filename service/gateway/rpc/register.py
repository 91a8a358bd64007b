"""A registration over one stream: its files in, its job followed, its result out.

The files are uploads like any others, so a call that breaks is made again with the ids that
FileOpened told. What breaks after JobAccepted leaves the job alone: a network that is down must
not cost a result. `CancelJob` stops it.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool

from service.errors import ResultNotFoundError, ValidationError, WarplineError
from service.errors.tree import errors_by_slug
from service.gateway.desk import Desk
from service.gateway.orders import RegisterOrder, Submission, validated
from service.gateway.parts import Parts
from service.gateway.recording import handed_out
from service.gateway.rpc.answering import answers
from service.gateway.rpc.clerk import Clerk
from service.gateway.rpc.download import chunks_of
from service.gateway.rpc.filing import Filing
from service.gateway.rpc.messages import job_message, result_messages, timestamp
from service.gateway.rpc.orders import (
    OPTIONS,
    idempotency_key,
    references,
    set_fields,
    ticket_fields,
)
from service.gateway.rpc.patience import Patience
from service.gateway.rpc.watching import watch
from service.gateway.submitting import Taken
from service.gateway.taking_in import require_model, take_in_registration
from service.jobs.job import Job, State, Upload
from service.pb import warpline_pb2 as pb
from service.registration.roles import REGISTER_ROLES
from service.rpc.calls import caller

Requests = AsyncIterator[pb.RegisterRequest]
Told = Callable[[pb.RegisterResponse | Exception], None]
Responses = AsyncGenerator[pb.RegisterResponse, None]


class Registering(Clerk):
    """The part of the servicer that registers a pair."""

    async def Register(
        self, requests: Requests, context: Any
    ) -> AsyncIterator[pb.RegisterResponse]:
        """Take a pair, make a job, follow it, give its result."""
        call = Registration(self.desk, caller())
        for part in (call.taking_in(requests), call.following(), call.delivering()):
            async with aclosing(part) as told:
                async for answer in told:
                    yield answer


class Registration:
    """One call. Its three parts come one after the other."""

    def __init__(self, desk: Desk, owner: str) -> None:
        self._desk = desk
        self._owner = owner
        self._start = pb.RegisterStart()
        self._sent: list[Upload] = []  # of which bytes came in this call
        self._taken: Taken | None = None

    @property
    def _job(self) -> Job:
        if self._taken is None:
            raise ValidationError("There is no job yet.")
        return self._taken.job

    # ---- the files and the job ---------------------------------------------------------------

    def taking_in(self, requests: Requests) -> Responses:
        """Take the files and make the job; ends with JobAccepted."""

        async def work(tell: Told) -> None:
            await self._take_in(requests, tell)

        return answers(work)

    async def _take_in(self, requests: Requests, tell: Told) -> None:
        patience = Patience(requests, self._desk.settings.body_idle_timeout_s)
        first = await patience.next()
        if first is None or first.WhichOneof("part") != "start":
            raise ValidationError("RegisterStart comes first.", field="start")
        self._start = first.start
        await run_in_threadpool(self._check_start)
        with self._desk.spool.folder() as folder:
            filing = Filing(self._desk, self._owner, folder, lambda part: tell(_response(part)))
            try:
                await self._take_files(patience, filing)
                self._taken = await run_in_threadpool(self._submit, filing, folder)
            finally:
                await filing.keep()
        self._sent = filing.sent
        tell(pb.RegisterResponse(accepted=await run_in_threadpool(self._accepted)))

    def _check_start(self) -> None:
        """Refuse what no file can mend, before one is sent."""
        order = validated(RegisterOrder, self._body({}))
        idempotency_key(self._start.ticket.idempotency_key)
        require_model(self._desk.models, order.options.model)
        self._desk.spool.require_room()

    def _body(self, uploads: dict[str, dict[str, str]]) -> dict[str, Any]:
        """The order as REST takes it."""
        sent_to = {"store_to": self._start.store_to} if self._start.store_to else {}
        return (
            ticket_fields(self._start.ticket)
            | sent_to
            | {
                "inputs": references(self._start.inputs) | uploads,
                "options": set_fields(self._start.options, *OPTIONS),
            }
        )

    async def _take_files(self, patience: Patience[pb.RegisterRequest], filing: Filing) -> None:
        while (request := await patience.next()) is not None:
            part = request.WhichOneof("part")
            if part == "submit":
                break
            if part == "file":
                self._require_role(request.file.role, filing)
                await filing.start(request.file)
            elif part == "chunk":
                patience.count(await filing.take(request.chunk))
            else:
                raise ValidationError(
                    "FileStart, chunks and Submit follow RegisterStart.", field="part"
                )
        filing.require_whole()

    def _require_role(self, role: str, filing: Filing) -> None:
        if role not in REGISTER_ROLES:
            raise ValidationError(
                f"A file's role is one of {', '.join(REGISTER_ROLES)}.", field="file.role"
            )
        if role in filing.uploads or role in self._start.inputs:
            raise ValidationError("This file has been named already.", field=role)

    def _submit(self, filing: Filing, folder: Path) -> Taken:
        sent = {role: {"upload_id": str(upload.id)} for role, upload in filing.uploads.items()}
        order = Submission(validated(RegisterOrder, self._body(sent)), at_hand=filing.paths)
        key = idempotency_key(self._start.ticket.idempotency_key)
        return take_in_registration(self._desk, self._owner, order, key, folder)

    def _drop_sent(self) -> None:
        for upload in self._sent:
            Parts(self._desk.stores, upload).drop()

    def _accepted(self) -> pb.JobAccepted:
        place = self._desk.stores.jobs.place(self._job.id)
        is_replayed = self._taken is not None and self._taken.is_replayed
        if is_replayed:
            self._drop_sent()  # the job has the files that came first
        return pb.JobAccepted(job=job_message(self._job, place), is_replayed=is_replayed)

    # ---- the job's life ----------------------------------------------------------------------

    async def following(self) -> Responses:
        """What happens to the job, until it ends; progress has the number of the last event.

        Raises:
            WarplineError: The job's own error, where it did not end well.
        """
        number = 0
        async with aclosing(watch(self._desk, self._job)) as news:
            async for one in news:
                if one.WhichOneof("part") == "event":
                    number = one.event.number
                    yield pb.RegisterResponse(event=one.event)
                else:
                    yield pb.RegisterResponse(event=_moved(number, one.progress))
        job = await run_in_threadpool(self._ended)
        if job.state is not State.SUCCEEDED:
            raise error_of(job)

    def _ended(self) -> Job:
        """The job as it ended; the files that were sent for it are not needed any more."""
        self._drop_sent()
        return self._desk.stores.jobs.job(self._job.id)

    # ---- the result --------------------------------------------------------------------------

    async def delivering(self) -> Responses:
        """The result's files, and their bytes where they were asked for."""
        job = await run_in_threadpool(self._desk.stores.jobs.job, self._job.id)
        files = await run_in_threadpool(result_messages, self._desk, job)
        wanted = self._wanted([file.name for file in files])
        await run_in_threadpool(self._record, job, [file.name for file in files], wanted)
        yield pb.RegisterResponse(result=pb.RegisterResult(job=job_message(job), files=files))
        for name in wanted:
            file = job.manifest.files[name] if job.manifest else None
            if file is not None:
                async with aclosing(chunks_of(self._desk, name, file, 0, file.bytes)) as chunks:
                    async for chunk in chunks:
                        yield pb.RegisterResponse(chunk=chunk)

    def _record(self, job: Job, files: list[str], wanted: list[str]) -> None:
        handed_out(self._desk, self._owner, "url", job.id, files)
        if wanted:
            handed_out(self._desk, self._owner, "read", job.id, wanted)

    def _wanted(self, names: list[str]) -> list[str]:
        if self._start.delivery != pb.DELIVERY_INLINE:
            return []
        unknown = sorted(set(self._start.wanted) - set(names))
        if unknown:
            raise ResultNotFoundError(
                f"The job is done, but its results are {', '.join(names)}.", field="start.wanted"
            )
        return [name for name in names if not self._start.wanted or name in self._start.wanted]


def _response(
    part: pb.FileOpened | pb.FileReceived | Exception,
) -> pb.RegisterResponse | Exception:
    if isinstance(part, pb.FileOpened):
        return pb.RegisterResponse(opened=part)
    if isinstance(part, pb.FileReceived):
        return pb.RegisterResponse(received=part)
    return part


def _moved(number: int, job: pb.Job) -> pb.JobEvent:
    """Progress between two events."""
    now = timestamp(datetime.now(UTC))
    return pb.JobEvent(number=number, at=now, job=job, type="progress")


def error_of(job: Job) -> WarplineError:
    """Why a job has no result, as the error that the worker or the store met."""
    problem = job.problem or {}
    kind = errors_by_slug().get(str(problem.get("code")), WarplineError)
    return kind(
        problem.get("detail") or f"The job {job.state}.",
        field=problem.get("field"),
        errors=tuple(problem.get("errors") or ()),
    )
