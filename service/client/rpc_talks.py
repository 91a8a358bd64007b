"""The streams of the API that carry files and follow jobs."""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, ClassVar

from google.protobuf.message import Message
from isal import isal_zlib

from service.client.rpc_sending import Sending
from service.client.rpc_steps import Talk
from service.client.rpc_views import event_of, job_of
from service.client.views import Event, Job
from service.errors import ChecksumMismatchError
from service.pb import warpline_pb2 as pb

Progress = Callable[[Job], object]


class UploadTalk(Talk):
    """Sends one file."""

    method: ClassVar[str] = "Upload"

    def __init__(self, sending: Sending) -> None:
        self._sending = sending
        sending.begin_again()

    def next_request(self) -> Message | None:
        part = self._sending.next_part()
        if isinstance(part, pb.FileStart):
            return pb.UploadRequest(start=part)
        if part is None:
            return None
        request = pb.UploadRequest()
        part.fill(request.chunk)
        return request

    @property
    def has_said_all(self) -> bool:
        return self._sending.has_sent_all

    def take(self, response: pb.UploadResponse) -> bool:
        if response.HasField("opened"):
            self._sending.opened(response.opened)
        else:
            self._sending.received(response.received)
        return True

    def close(self) -> None:
        self._sending.close()


class RegisterTalk(Talk):
    """Sends a pair; with `follow`, stays until the job has ended."""

    method: ClassVar[str] = "Register"

    def __init__(
        self,
        start: pb.RegisterStart,
        sending: Sending,
        *,
        follow: bool,
        progress: Progress | None = None,
    ) -> None:
        self._start: pb.RegisterStart | None = start
        self._sending, self._follow, self._progress = sending, follow, progress
        self._has_submitted = False
        self.job: Job | None = None
        """As it was told last, once it was accepted."""
        self.last_event = 0
        self.has_result = False
        sending.begin_again()

    def next_request(self) -> Message | None:
        if self._start is not None:
            start, self._start = self._start, None
            return pb.RegisterRequest(start=start)
        if self.job is not None:
            return None
        part = self._sending.next_part()
        if isinstance(part, pb.FileStart):
            return pb.RegisterRequest(file=part)
        if part is not None:
            request = pb.RegisterRequest()
            part.fill(request.chunk)
            return request
        if self._sending.has_sent_all and not self._has_submitted:
            self._has_submitted = True
            return pb.RegisterRequest(submit=pb.Submit())
        return None

    @property
    def has_said_all(self) -> bool:
        return self._has_submitted or self.job is not None

    def take(self, response: pb.RegisterResponse) -> bool:
        part = response.WhichOneof("part")
        if part == "opened":
            self._sending.opened(response.opened)
        elif part == "received":
            self._sending.received(response.received)
        elif part == "accepted":
            self._see(response.accepted.job)
            return self._follow
        elif part == "event":
            self.last_event = response.event.number
            self._see(response.event.job)
        elif part == "result":
            self.has_result = True
            self._see(response.result.job)
            return False
        return True

    def _see(self, job: pb.Job) -> None:
        self.job = job_of(job)
        if self._progress is not None:
            self._progress(self.job)

    def close(self) -> None:
        self._sending.close()


class WatchTalk(Talk):
    """Follows a job until it has ended."""

    method: ClassVar[str] = "WatchJob"

    def __init__(self, job_id: str, after: int, progress: Progress | None = None) -> None:
        self.request = pb.WatchJobRequest(job_id=job_id, after_event=after)
        self.job: Job | None = None
        self.after, self._progress = after, progress
        self._events: list[Event] = []

    @property
    def has_ended(self) -> bool:
        """Whether the job has."""
        return self.job is not None and self.job.has_ended

    def new_events(self) -> list[Event]:
        """Those since the last question."""
        events, self._events = self._events, []
        return events

    def take(self, response: pb.WatchJobResponse) -> bool:
        if response.HasField("event"):
            if response.event.number <= self.after:
                return True
            self.after = response.event.number
            self._events.append(event_of(response.event))
            self.job = job_of(response.event.job)
        else:
            self.job = job_of(response.progress)
        if self._progress is not None:
            self._progress(self.job)
        return not self.job.has_ended


class DownloadTalk(Talk):
    """Appends to a file what it lacks of a result."""

    method: ClassVar[str] = "DownloadResult"

    def __init__(self, job_id: str, name: str, part: Path) -> None:
        self._part = part
        self._reached = part.stat().st_size if part.exists() else 0
        self.request = pb.DownloadResultRequest(job_id=job_id, name=name, offset=self._reached)
        self._file: BinaryIO | None = None

    def take(self, response: pb.DownloadResultResponse) -> bool:
        if response.HasField("file"):
            self._part.touch()
            return bool(response.file.size_bytes > self._reached)
        chunk = response.chunk
        if chunk.offset != self._reached or isal_zlib.crc32(chunk.data) != chunk.crc32:
            raise ChecksumMismatchError("A part of a result arrived damaged.", field=chunk.name)
        if self._file is None:
            self._file = self._part.open("ab")
        self._file.write(chunk.data)
        self._reached += len(chunk.data)
        return True

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
