"""The gRPC client for programs on asyncio; the same methods as `GrpcClient`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import grpc
import grpc.aio
from google.protobuf.message import Message

from service.client import rpc_channel, rpc_flows, rpc_training
from service.client.fetching import JobId
from service.client.methods import Awaited
from service.client.orders import AnyPath, Order, RegisterTerms, WarpTerms
from service.client.retrying import Patience
from service.client.rpc_methods import GrpcMethods
from service.client.rpc_problems import failed
from service.client.rpc_sending import SentBytes
from service.client.rpc_steps import Ask, Ended, Failed, Outcome, RpcFlow, Talk
from service.client.rpc_sync import GrpcClient
from service.client.rpc_talks import Progress, WatchTalk
from service.client.steps import Pause
from service.client.training import TrainTerms
from service.client.views import Event, Job, Upload
from service.errors import WarplineError
from service.pb.warpline_pb2_grpc import WarplineServiceStub

T = TypeVar("T")


class AsyncGrpcClient(GrpcMethods, Awaited):
    """Talks to a Warpline server by gRPC without blocking the event loop on the network.

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
        self._url = url
        rpc_channel.Address.of(url)
        self._channel: grpc.aio.Channel | None = None  # grpcio ties it to the running loop
        self._api_key = api_key
        self._metadata = rpc_channel.metadata(api_key)
        self._streams: GrpcClient | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        if self._channel is not None:
            await self._channel.close()
        if self._streams is not None:
            self._streams.close()

    async def register(
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
        return await self._run(
            rpc_flows.register(order, wait=wait, progress=_on_loop(progress), sent=_on_loop(sent))
        )

    async def warp(
        self,
        job_id: JobId,
        *,
        wait: bool = False,
        progress: Progress | None = None,
        **terms: Unpack[WarpTerms],
    ) -> Job:
        """Order that a finished job's transform is applied to more images, labels or points."""
        job = await self._run(rpc_flows.warp(Order.of("warp", {"job_id": str(job_id), **terms})))
        return await self.wait(job.id, progress) if wait else job

    async def upload(self, path: AnyPath, sent: SentBytes | None = None) -> Upload:
        """Send one file, for later use."""
        return await self._run(rpc_flows.upload(Path(path), _on_loop(sent)))

    async def wait(self, job_id: JobId, progress: Progress | None = None) -> Job:
        """Wait until a job has succeeded; raises why it did not."""
        return await self._run(rpc_flows.wait_for(str(job_id), 0, progress))

    async def events(self, job_id: JobId, after: int = 0) -> AsyncIterator[Event]:
        """What happens to a job, as it happens, until it has ended."""
        patience = Patience()
        while True:
            talk = WatchTalk(str(job_id), after)
            async for _ in self._responses(talk):
                for event in talk.new_events():
                    yield event
            if talk.has_ended:
                return
            after = talk.after
            await self._run(rpc_flows.pause_after_watch(talk, patience))

    async def train(
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
        job = await self._run(rpc_training.train(config, terms))
        return await self.wait(job.id, progress) if wait else job

    async def _run(self, flow: RpcFlow[T]) -> T:
        """Carry out a flow's steps."""
        outcome: Outcome = Ended()
        try:
            step = next(flow)
            while True:
                if isinstance(step, Ask):
                    outcome = await self._ask(step)
                elif isinstance(step, Talk):
                    outcome = await self._talk(step)
                elif isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                step = flow.send(outcome)
        except StopIteration as end:
            answer: T = end.value
            return answer

    def _method(self, name: str) -> Any:
        if self._channel is None:
            self._channel = rpc_channel.aio_channel(self._url)
        return getattr(WarplineServiceStub(self._channel), name)

    async def _ask(self, ask: Ask) -> Outcome:
        try:
            call = self._method(ask.method)
            sent = call(ask.request, timeout=ask.timeout_s, metadata=self._metadata)
            answer: Message = await sent
            return answer
        except grpc.aio.AioRpcError as error:
            return failed(error)

    async def _talk(self, talk: Talk) -> Outcome:
        if talk.request is None:
            return await self._talk_in_thread(talk)
        async for _ in self._responses(talk):
            pass
        return talk.failure or Ended()

    async def _talk_in_thread(self, talk: Talk) -> Outcome:
        """A stream of requests, by the sync API.

        Of a call that the server ends while requests are sent, grpcio's aio tells every other time
        INTERNAL instead of the server's reason (github.com/grpc/grpc/issues/36066).
        """
        if self._streams is None:
            self._streams = GrpcClient(self._url, self._api_key)
        try:
            return await asyncio.to_thread(self._streams._carry, talk)
        except asyncio.CancelledError:
            talk.stop()
            raise

    async def _responses(self, talk: Talk) -> AsyncIterator[None]:
        """Carry a stream of responses on; returns to the caller after each that was read."""
        call = self._method(talk.method)(talk.request, metadata=self._metadata)
        try:
            async for response in call:
                goes_on = talk.take(response)
                yield
                if not goes_on:
                    break
        except grpc.aio.AioRpcError as error:
            talk.failure = failed(error)
        except WarplineError as error:
            talk.failure = Failed(error)
        finally:
            call.cancel()
            talk.close()


def _on_loop(tell: Callable[..., object] | None) -> Callable[..., object] | None:
    """A callback that is called on the running loop, from whichever thread."""
    if tell is None:
        return None
    loop = asyncio.get_running_loop()
    return lambda *told: loop.call_soon_threadsafe(tell, *told)
