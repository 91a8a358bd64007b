"""A small Warpline server on real gRPC: keeps uploads and makes jobs that succeed at once."""

import hashlib
import uuid
import zlib
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass, field

import grpc

from service.errors import (
    ChecksumMismatchError,
    JobNotFoundError,
    ResultNotFoundError,
    UploadNotFoundError,
    WarplineError,
)
from service.pb import warpline_pb2 as pb
from service.pb.warpline_pb2_grpc import (
    WarplineServiceServicer,
    add_WarplineServiceServicer_to_server,
)
from service.rpc.status import code_of, trailers_of

SERVED_CHUNK = 2**18


@dataclass
class Kept:
    """An upload."""

    start: pb.FileStart
    data: bytearray = field(default_factory=bytearray)
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def is_complete(self) -> bool:
        return len(self.data) == self.start.size_bytes

    def take(self, chunk: pb.FileChunk) -> pb.FileReceived:
        if zlib.crc32(chunk.data) != chunk.crc32:
            raise ChecksumMismatchError("A chunk arrived damaged.", field=self.start.role)
        assert chunk.offset == len(self.data)
        self.data += chunk.data
        return self.received()

    def received(self) -> pb.FileReceived:
        sha256 = hashlib.sha256(self.data).digest() if self.is_complete else b""
        if sha256 and sha256 != self.start.sha256:
            raise ChecksumMismatchError("The file arrived damaged.", field=self.start.role)
        return pb.FileReceived(
            upload_id=self.id,
            received_bytes=len(self.data),
            is_complete=self.is_complete,
            sha256=sha256,
        )

    def opened(self) -> pb.FileOpened:
        return pb.FileOpened(role=self.start.role, upload_id=self.id, received_bytes=len(self.data))


class FakeService(WarplineServiceServicer):
    """What the client needs, in memory."""

    def __init__(self) -> None:
        self.uploads: dict[str, Kept] = {}
        self.jobs: dict[str, pb.Job] = {}
        self.keys: dict[str, str] = {}
        self.starts: list[pb.RegisterStart] = []
        self.results = {"warped.nii.gz": bytes(range(256)) * 5000, "report.json": b"{}"}
        self.failures: dict[str, list[WarplineError]] = {}
        self.ends_as = pb.JOB_STATE_SUCCEEDED
        self.problem: pb.Problem | None = None
        self.calls: list[str] = []
        self.seen_metadata: list[dict[str, str]] = []

    def _begin(self, name, context) -> None:
        self.calls.append(name)
        self.seen_metadata.append(dict(context.invocation_metadata()))
        if self.failures.get(name):
            self._abort(context, self.failures[name].pop(0))

    def _abort(self, context, error: WarplineError) -> None:
        context.set_trailing_metadata(trailers_of(error))
        context.abort(code_of(error), error.detail)

    def _keep(self, start: pb.FileStart) -> Kept:
        if start.upload_id and start.upload_id not in self.uploads:
            raise UploadNotFoundError
        kept = self.uploads.get(start.upload_id) or Kept(start)
        self.uploads[kept.id] = kept
        return kept

    def Upload(self, request_iterator, context):  # noqa: N802
        self._begin("Upload", context)
        try:
            kept = None
            for request in request_iterator:
                if request.HasField("start"):
                    kept = self._keep(request.start)
                    yield pb.UploadResponse(opened=kept.opened())
                    if kept.is_complete:
                        yield pb.UploadResponse(received=kept.received())
                else:
                    yield pb.UploadResponse(received=kept.take(request.chunk))
        except WarplineError as error:
            self._abort(context, error)

    def Register(self, request_iterator, context):  # noqa: N802
        self._begin("Register", context)
        try:
            kept = None
            for request in request_iterator:
                part = request.WhichOneof("part")
                if part == "start":
                    self.starts.append(request.start)
                elif part == "file":
                    kept = self._keep(request.file)
                    yield pb.RegisterResponse(opened=kept.opened())
                    if kept.is_complete:
                        yield pb.RegisterResponse(received=kept.received())
                elif part == "chunk":
                    yield pb.RegisterResponse(received=kept.take(request.chunk))
                else:
                    break
            job = self._job(self.starts[-1].ticket.idempotency_key)
            yield pb.RegisterResponse(accepted=pb.JobAccepted(job=job))
            for event in self._events(job):
                yield pb.RegisterResponse(event=event)
            ended = self._ended(job)
            yield pb.RegisterResponse(result=pb.RegisterResult(job=ended, files=self._files()))
        except WarplineError as error:
            self._abort(context, error)

    def _job(self, key: str) -> pb.Job:
        if key not in self.keys:
            job = pb.Job(id=str(uuid.uuid4()), kind="register", state=pb.JOB_STATE_QUEUED)
            job.created_at.GetCurrentTime()
            job.jobs_before = 0
            self.keys[key] = job.id
            self.jobs[job.id] = job
        return self.jobs[self.keys[key]]

    def _events(self, job: pb.Job) -> list[pb.JobEvent]:
        running = pb.Job()
        running.CopyFrom(job)
        running.state, running.progress = pb.JOB_STATE_RUNNING, 0.5
        running.ClearField("jobs_before")
        return [
            pb.JobEvent(number=1, job=job),
            pb.JobEvent(number=2, job=running),
            pb.JobEvent(number=3, job=self._ended(job)),
        ]

    def _ended(self, job: pb.Job) -> pb.Job:
        ended = pb.Job()
        ended.CopyFrom(job)
        ended.state, ended.progress = self.ends_as, 1.0
        ended.summary_json = '{"verdict": {"status": "pass"}}'
        ended.ClearField("jobs_before")
        if self.problem is not None:
            ended.problem.CopyFrom(self.problem)
        return ended

    def _found(self, job_id, context) -> pb.Job:
        if job_id not in self.jobs:
            self._abort(context, JobNotFoundError())
        return self.jobs[job_id]

    def WatchJob(self, request, context):  # noqa: N802
        self._begin("WatchJob", context)
        for event in self._events(self._found(request.job_id, context)):
            if event.number > request.after_event:
                yield pb.WatchJobResponse(event=event)

    def GetJob(self, request, context):  # noqa: N802
        self._begin("GetJob", context)
        job = self._found(request.job_id, context)
        return pb.GetJobResponse(job=self._ended(job))

    def ListJobs(self, _request, context):  # noqa: N802
        self._begin("ListJobs", context)
        return pb.ListJobsResponse(jobs=self.jobs.values(), next_page_token="more")

    def CancelJob(self, request, context):  # noqa: N802
        self._begin("CancelJob", context)
        job = self._found(request.job_id, context)
        job.state = pb.JOB_STATE_CANCELLED
        return pb.CancelJobResponse(job=job)

    def _files(self) -> list[pb.ResultFile]:
        return [
            pb.ResultFile(
                name=name,
                size_bytes=len(data),
                sha256=hashlib.sha256(data).digest(),
                url="http://x",
            )
            for name, data in self.results.items()
        ]

    def ListResults(self, _request, context):  # noqa: N802
        self._begin("ListResults", context)
        return pb.ListResultsResponse(files=self._files())

    def DownloadResult(self, request, context):  # noqa: N802
        self._begin("DownloadResult", context)
        if request.name not in self.results:
            self._abort(context, ResultNotFoundError())
        data = self.results[request.name]
        yield pb.DownloadResultResponse(file=pb.ResultFile(name=request.name, size_bytes=len(data)))
        for offset in range(request.offset, len(data), SERVED_CHUNK):
            part = data[offset : offset + SERVED_CHUNK]
            chunk = pb.ResultChunk(
                name=request.name, offset=offset, data=part, crc32=zlib.crc32(part)
            )
            yield pb.DownloadResultResponse(chunk=chunk)

    def GetLimits(self, _request, context):  # noqa: N802
        self._begin("GetLimits", context)
        limits = '{"max_body_bytes": 1000, "max_upload_bytes": 2000}'
        return pb.GetLimitsResponse(limits_json=limits, has_live=True)


class Server:
    """A gRPC server on threads; asyncio has a loop of its own in the client's tests."""

    def __init__(self, add: Callable[[grpc.Server], None]) -> None:
        threads = futures.ThreadPoolExecutor(16)
        self._server = grpc.server(threads, options=[("grpc.so_reuseport", 0)])
        add(self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def stop(self) -> None:
        """End it, with its calls."""
        self._server.stop(None).wait(10)


def serve_fake(service: FakeService) -> Server:
    """Run the fake service on a free port."""
    return Server(lambda server: add_WarplineServiceServicer_to_server(service, server))
