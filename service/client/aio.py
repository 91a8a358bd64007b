"""The client for programs on asyncio; the same methods as `Client`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from service.client import cohorts, fetching, http, models, orders, training
from service.client.cohorts import CohortId, Files
from service.client.events import EventFeed
from service.client.fetching import JobId
from service.client.orders import AnyPath, RegisterTerms, WarpTerms
from service.client.problems import error_of_reply
from service.client.steps import Call, Flow, Lost, Pause, Reply, Tell
from service.client.training import DatasetId, DatasetTerms, TrainTerms
from service.client.views import (
    Cohort,
    CohortList,
    Dataset,
    DatasetList,
    Event,
    Job,
    JobList,
    Limits,
    Results,
)

T = TypeVar("T")
Progress = Callable[[Job], object]


class AsyncClient:
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

    async def register_dataset(self, name: str, **terms: Unpack[DatasetTerms]) -> Dataset:
        """Keep a folder, an archive or addresses on the server, to be trained on many times."""
        return await self._run(training.register_dataset(name, terms))

    async def datasets(self, *, limit: int = 50, cursor: str | None = None) -> DatasetList:
        """A page of your data sets, newest first."""
        return await self._run(training.datasets(limit, cursor))

    async def dataset(self, dataset_id: DatasetId) -> Dataset:
        """One data set."""
        return await self._run(training.dataset(dataset_id))

    async def delete_dataset(self, dataset_id: DatasetId) -> None:
        """Forget a data set; trainings that were ordered with it keep it until they end."""
        await self._run(training.delete_dataset(dataset_id))

    async def register_cohort(
        self, inputs: Files, subjects: Mapping[str, Files], **terms: Any
    ) -> Cohort:
        """Order that many moving images are registered to one fixed; each file is sent once.

        Args:
            inputs: `fixed`, and what else all have in common, by role.
            subjects: `moving`, and what else belongs to it, by role; by the subject's id.
            terms: Options of a registration, queue, priority, deadline_s, idempotency_key.
        """
        return await self._run(cohorts.register_cohort(inputs, subjects, terms))

    async def cohort(self, cohort_id: CohortId) -> Cohort:
        """A cohort as it is now, with its table of figures."""
        return await self._run(cohorts.cohort(cohort_id))

    async def cohorts(self, *, limit: int = 50, cursor: str | None = None) -> CohortList:
        """A page of your cohorts, newest first."""
        return await self._run(cohorts.cohorts(limit, cursor))

    async def delete_cohort(self, cohort_id: CohortId) -> Cohort | None:
        """Cancel a cohort; one that has ended is forgotten with its files, which gives None."""
        return await self._run(cohorts.delete_cohort(cohort_id))

    async def job(self, job_id: JobId) -> Job:
        """The job as it is now."""
        return await self._run(fetching.job(job_id))

    async def jobs(
        self, states: Collection[str] = (), *, limit: int = 50, cursor: str | None = None
    ) -> JobList:
        """A page of your jobs, newest first."""
        return await self._run(fetching.jobs(states, limit, cursor))

    async def wait(self, job_id: JobId, progress: Progress | None = None) -> Job:
        """Wait until a job has succeeded; raises why it did not."""
        return await self._run(fetching.wait(job_id), progress)

    async def events(self, job_id: JobId, after: int = 0) -> AsyncIterator[Event]:
        """What happens to a job, as it happens, until it has ended."""
        feed = EventFeed(job_id, after)
        while not feed.has_ended:
            try:
                async for event in self._listen(feed):
                    yield event
                reason = "the stream of events ended early"
            except httpx.TransportError as error:
                reason = http.lost(error).reason
            if not feed.has_ended:
                await asyncio.sleep(feed.pause_s(reason))

    async def results(self, job_id: JobId) -> Results:
        """The files that a job left behind, with URLs that work for a while."""
        return await self._run(fetching.results(job_id))

    async def download(
        self, job_id: JobId, folder: AnyPath, names: Collection[str] = ()
    ) -> dict[str, Path]:
        """Fetch all results, or those named, checked against their sums; takes up broken ones."""
        return await self._run(fetching.download(job_id, Path(folder), names))

    async def cancel(self, job_id: JobId) -> Job:
        """Stop a job that waits or runs; one that has ended stays as it is."""
        return await self._run(fetching.cancel(job_id))

    async def delete(self, job_id: JobId) -> None:
        """Forget a job that has ended, and its results."""
        await self._run(fetching.delete(job_id))

    async def models(self) -> list[dict[str, Any]]:
        """The models that the server runs."""
        return await self._run(models.models())

    async def model(self, reference: str) -> dict[str, Any]:
        """One model's card: NAME, NAME/VERSION or NAME@ALIAS."""
        return await self._run(models.model(reference))

    async def promote(
        self, name: str, version: str, alias: str = "production", *, force: bool = False
    ) -> dict[str, Any]:
        """Point an alias to a version of a model.

        A trained version goes into `production` only if it did no worse than what is there, on
        the same pairs; or with `force`.
        """
        return await self._run(models.promote(name, version, alias, force=force))

    async def roll_back(self, name: str, alias: str = "production") -> dict[str, Any]:
        """Undo an alias's last move; gives the model that it stands for now."""
        return await self._run(models.roll_back(name, alias))

    async def delete_model(self, name: str, version: str) -> None:
        """Delete a version that a training made; refused while an alias or a job needs it."""
        await self._run(models.delete(name, version))

    async def limits(self) -> Limits:
        """What the server accepts."""
        return await self._run(orders.fetch_limits())

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
                    raise error_of_reply(response.status_code, await response.aread(), None)
                async for line in response.aiter_lines():
                    if (event := feed.take(line)) is not None:
                        yield event
                    if feed.has_ended:
                        return
