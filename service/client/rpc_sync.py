"""The gRPC client for ordinary programs."""

import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import grpc
from google.protobuf.message import Message

from service.client import rpc_channel, rpc_flows, rpc_training
from service.client.fetching import JobId
from service.client.methods import Blocking
from service.client.orders import AnyPath, Order, RegisterTerms, WarpTerms
from service.client.retrying import Patience
from service.client.rpc_methods import GrpcMethods
from service.client.rpc_problems import failed
from service.client.rpc_sending import SentBytes
from service.client.rpc_steps import Ask, Ended, Failed, Outcome, RpcFlow, Talk
from service.client.rpc_talks import Progress, WatchTalk
from service.client.steps import Pause
from service.client.training import TrainTerms
from service.client.views import Event, Job, Upload
from service.errors import WarplineError
from service.pb.warpline_pb2_grpc import WarplineServiceStub

T = TypeVar("T")


class GrpcClient(GrpcMethods, Blocking):
    """Talks to a Warpline server by gRPC; the same methods as `Client`.

    Files go in checked chunks; an upload, a watch and a download whose connection breaks go on
    where they were. Every method raises the error of `service.errors` whose code the server
    sends, and UnavailableError when no server answers.
    """

    def __init__(self, url: str = "grpc://127.0.0.1:8081", api_key: str | None = None) -> None:
        """Make a client; it connects with its first call.

        Args:
            url: `grpc://HOST:PORT`, or `grpcs://HOST:PORT` with TLS.
            api_key: Where the server asks for one.
        """
        self._channel = rpc_channel.channel(url)
        self._stub = WarplineServiceStub(self._channel)
        self._metadata = rpc_channel.metadata(api_key)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def register(
        self,
        fixed: AnyPath,
        moving: AnyPath,
        *,
        wait: bool = False,
        progress: Progress | None = None,
        sent: SentBytes | None = None,
        **terms: Unpack[RegisterTerms],
    ) -> Job:
        """Order a registration; with `wait`, return when it has succeeded.

        Args:
            fixed: Path of the image to align to.
            moving: Path of the image to align.
            wait: Stay until the job has ended.
            progress: Called with the job whenever it is told.
            sent: Called with the bytes that are under way, and all that there are.
            terms: More files by role, options, queue, priority, deadline_s, idempotency_key.
        """
        order = Order.of("register", {"fixed": fixed, "moving": moving, **terms})
        return self._run(rpc_flows.register(order, wait=wait, progress=progress, sent=sent))

    def warp(
        self,
        job_id: JobId,
        *,
        wait: bool = False,
        progress: Progress | None = None,
        **terms: Unpack[WarpTerms],
    ) -> Job:
        """Order that a finished job's transform is applied to more images, labels or points."""
        job = self._run(rpc_flows.warp(Order.of("warp", {"job_id": str(job_id), **terms})))
        return self.wait(job.id, progress) if wait else job

    def upload(self, path: AnyPath, sent: SentBytes | None = None) -> Upload:
        """Send one file, for later use."""
        return self._run(rpc_flows.upload(Path(path), sent))

    def wait(self, job_id: JobId, progress: Progress | None = None) -> Job:
        """Wait until a job has succeeded; raises why it did not."""
        return self._run(rpc_flows.wait_for(str(job_id), 0, progress))

    def events(self, job_id: JobId, after: int = 0) -> Iterator[Event]:
        """What happens to a job, as it happens, until it has ended."""
        patience = Patience()
        while True:
            talk = WatchTalk(str(job_id), after)
            for _ in self._responses(talk):
                yield from talk.new_events()
            if talk.has_ended:
                return
            after = talk.after
            self._run(rpc_flows.pause_after_watch(talk, patience))

    def train(
        self,
        config: Mapping[str, Any],
        *,
        wait: bool = False,
        progress: Progress | None = None,
        **terms: Unpack[TrainTerms],
    ) -> Job:
        """Order a training; with `wait`, return when its model is there.

        Args:
            config: What to train and how, as a YAML file of `warpline train` says it.
            wait: Stay until the job has ended.
            progress: Called with the job whenever it is told, while waiting.
            terms: Where the data are (data, dataset_id, urls, listing), priority, deadline_s,
                idempotency_key.
        """
        job = self._run(rpc_training.train(config, terms))
        return self.wait(job.id, progress) if wait else job

    def _run(self, flow: RpcFlow[T]) -> T:
        """Carry out a flow's steps."""
        outcome: Outcome = Ended()
        try:
            step = next(flow)
            while True:
                if isinstance(step, Ask):
                    outcome = self._ask(step)
                elif isinstance(step, Talk):
                    outcome = self._carry(step)
                elif isinstance(step, Pause):
                    time.sleep(step.seconds)
                step = flow.send(outcome)
        except StopIteration as end:
            answer: T = end.value
            return answer

    def _ask(self, ask: Ask) -> Outcome:
        try:
            call = getattr(self._stub, ask.method)
            answer: Message = call(ask.request, timeout=ask.timeout_s, metadata=self._metadata)
            return answer
        except grpc.RpcError as error:
            return failed(error)

    def _carry(self, talk: Talk) -> Outcome:
        """Carry a stream on until it ends."""
        for _ in self._responses(talk):
            pass
        return talk.failure or Ended()

    def _responses(self, talk: Talk) -> Iterator[None]:
        """Carry a stream on; returns to the caller after each response that was read."""
        requests = _Requests(talk)
        method = getattr(self._stub, talk.method)
        call = method(talk.request or requests, metadata=self._metadata)
        talk.stop = call.cancel
        try:
            for response in call:
                goes_on = requests.take(response)
                yield
                if not goes_on:
                    break
        except grpc.RpcError as error:
            talk.failure = requests.failure or failed(error)
        except WarplineError as error:
            talk.failure = Failed(error)
        finally:
            requests.end()
            call.cancel()
            talk.close()


class _Requests:
    """What is sent, for the thread of grpcio that sends it."""

    def __init__(self, talk: Talk) -> None:
        self._talk, self._is_over = talk, False
        self._changed = threading.Condition()
        self.failure: Failed | None = None

    def __iter__(self) -> "Self":
        return self

    def __next__(self) -> Message:
        with self._changed:
            try:
                request = self._talk.next_request()
                while request is None and not self._talk.has_said_all and not self._is_over:
                    self._changed.wait()
                    request = self._talk.next_request()
            except WarplineError as error:
                self.failure = Failed(error)
                raise
        if request is None or self._is_over:
            raise StopIteration
        return request

    def take(self, response: Message) -> bool:
        """Hand a response over while nothing is being sent."""
        with self._changed:
            goes_on = self._talk.take(response)
            self._changed.notify_all()
            return goes_on

    def end(self) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
