"""The client for programs on asyncio; the same methods as `Client`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from service.client import fetching, http, orders, training
from service.client.events import EventFeed
from service.client.fetching import JobId
from service.client.methods import Awaited
from service.client.orders import AnyPath, RegisterTerms, WarpTerms
from service.client.rest_methods import RestMethods
from service.client.retrying import error_of, unanswered
from service.client.steps import Call, Flow, Lost, Pause, Reply, Tell
from service.client.training import TrainTerms
from service.client.views import Event, Job
from service.errors import LimitError, UnavailableError, WarplineError

T = TypeVar("T")
Progress = Callable[[Job], object]


class AsyncClient(RestMethods, Awaited):
    """Talks to a Warpline server without blocking the event loop on the network.

    Requests are tried again while that may help (429, 503, a broken connection); an order is
    carried out once all the same, because it carries an Idempotency-Key.

    Every method raises the error of `service.errors` whose code the server sends, and
    UnavailableError when no server answers.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8080",
        api_key: str | None = None,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Make a client.

        Args:
            url: The server's address.
            api_key: Where the server asks for one.
            transport: Of httpx, for proxies and tests.
        """
        self._url, self._api_key = url, api_key
        self._http = httpx.AsyncClient(**http.client_options(), transport=transport)

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
        """Close the connections."""
        await self._http.aclose()

    async def register(
        self,
        fixed: AnyPath,
        moving: AnyPath,
        *,
        wait: bool = False,
        progress: Progress | None = None,
        **terms: Unpack[RegisterTerms],
    ) -> Job:
        """Order a registration; with `wait`, return when it has succeeded.

        Args:
            fixed: Path of the image to align to.
            moving: Path of the image to align.
            wait: Stay until the job has ended.
            progress: Called with the job whenever it was looked at, while waiting.
            terms: More files by role, options, queue, priority, deadline_s, idempotency_key.
        """
        every = {"fixed": fixed, "moving": moving, **terms}
        job = await self._run(orders.send(orders.Order.of("/v1/register", every)))
        return await self.wait(job.id, progress) if wait else job

    async def warp(
        self,
        job_id: JobId,
        *,
        wait: bool = False,
        progress: Progress | None = None,
        **terms: Unpack[WarpTerms],
    ) -> Job:
        """Order that a finished job's transform is applied to more images, labels or points."""
        every = {"job_id": str(job_id), **terms}
        job = await self._run(orders.send(orders.Order.of("/v1/warp", every)))
        return await self.wait(job.id, progress) if wait else job

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
            progress: Called with the job whenever it was looked at, while waiting.
            terms: Where the data are (data, dataset_id, urls, listing), priority, deadline_s,
                idempotency_key.
        """
        job = await self._run(training.train(config, terms))
        return await self.wait(job.id, progress) if wait else job

    async def wait(self, job_id: JobId, progress: Progress | None = None) -> Job:
        """Wait until a job has succeeded; raises why it did not."""
        return await self._run(fetching.wait(job_id), progress)

    async def events(self, job_id: JobId, after: int = 0) -> AsyncIterator[Event]:
        """What happens to a job, as it happens, until it has ended."""
        feed = EventFeed(job_id, after)
        while not feed.has_ended:
            failure: WarplineError = UnavailableError("The stream of events ended early.")
            try:
                async for event in self._listen(feed):
                    yield event
            except httpx.TransportError as error:
                failure = unanswered(http.lost(error))
            except (UnavailableError, LimitError) as error:
                failure = error
            if not feed.has_ended:
                await asyncio.sleep(feed.pause_s(failure))

    async def _run(self, flow: Flow[T], progress: Progress | None = None) -> T:
        """Carry out a flow's steps."""
        reply: Reply | Lost = Lost("not begun")
        try:
            step = next(flow)
            while True:
                if isinstance(step, Call):
                    reply = await self._carry_out(step)
                elif isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                elif isinstance(step, Tell) and progress is not None:
                    progress(step.job)
                step = flow.send(reply)
        except StopIteration as end:
            answer: T = end.value
            return answer

    async def _carry_out(self, call: Call) -> Reply | Lost:
        try:
            with ExitStack() as opened:
                options = http.request_options(call, self._url, self._api_key, opened)
                async with self._http.stream(**options) as response:
                    if call.save_to is None or not response.is_success:
                        return http.reply_of(response, await response.aread())
                    with call.save_to.open(http.save_mode(response)) as file:
                        async for chunk in response.aiter_bytes():
                            file.write(chunk)
                    return http.reply_of(response, b"")
        except httpx.TransportError as error:
            return http.lost(error)

    async def _listen(self, feed: EventFeed) -> AsyncIterator[Event]:
        with ExitStack() as opened:
            options = http.request_options(feed.call(), self._url, self._api_key, opened)
            async with self._http.stream(**options) as response:
                if not response.is_success:
                    raise error_of(http.reply_of(response, await response.aread()))
                async for line in response.aiter_lines():
                    if (event := feed.take(line)) is not None:
                        yield event
                    if feed.has_ended:
                        return
