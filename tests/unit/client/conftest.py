"""The real gateway behind a wire that can break, and both clients on it."""

import hashlib
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import nibabel as nib
import numpy as np
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from service.client import AsyncClient, Client, aio, rpc_channel, sync
from service.gateway.app import create_app
from service.jobs.job import Manifest, Queue, ResultFile
from service.settings import Settings

URL = "http://gateway"
Fault = Callable[[httpx.Request, httpx.Response], httpx.Response]


class Broken(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body whose connection breaks after some bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __iter__(self) -> Iterator[bytes]:
        yield self.data
        raise httpx.ReadError("broken")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.data
        raise httpx.ReadError("broken")


@dataclass
class Wire(httpx.AsyncBaseTransport):
    """Carries requests to the app; `faults` maps the number of a request to what goes wrong."""

    app: Any
    faults: dict[int, Fault] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)
    seen: list[httpx.Request] = field(default_factory=list)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        content = await request.aread()
        copy = httpx.Request(request.method, request.url, headers=request.headers, content=content)
        self.seen.append(copy)
        number = len(self.seen)
        answer = await httpx.ASGITransport(self.app).handle_async_request(copy)
        content = await answer.aread()
        response = httpx.Response(answer.status_code, headers=answer.headers, content=content)
        if number in self.lost:  # it arrived; its answer did not
            raise httpx.ReadError("broken")
        return self.faults[number](copy, response) if number in self.faults else response


@dataclass
class SyncWire(httpx.BaseTransport):
    """The same wire for the sync client."""

    wire: Wire
    portal: BlockingPortal

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        copy = httpx.Request(
            request.method, request.url, headers=request.headers, content=request.content
        )
        return self.portal.call(self.wire.handle_async_request, copy)


class Blocking:
    """An AsyncClient, called as if it were the other one."""

    def __init__(self, client: AsyncClient, portal: BlockingPortal) -> None:
        self._client, self._portal = client, portal

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            async def run() -> Any:
                result = getattr(self._client, name)(*args, **options)
                if inspect.isasyncgen(result):
                    return [item async for item in result]
                return await result

            return self._portal.call(run)

        return call


@dataclass
class World:
    """A gateway, the wire to it, a client, and the seconds that the client slept."""

    wire: Wire
    client: Any
    slept: list[float]

    def work(self, files: dict[str, bytes]) -> str:
        """Do the next job as a worker would, with these results."""
        stores = self.wire.app.state.desk.stores
        claim = stores.jobs.claim([Queue.INTERACTIVE], "worker-1", timedelta(seconds=30))
        assert claim is not None
        made = {}
        for name, data in files.items():
            key = f"jobs/{claim.job.id}/{claim.fence}/{name}"
            stores.blobs.put_bytes(key, data)
            sha256 = hashlib.sha256(data).hexdigest()
            made[name] = ResultFile(
                key=key, bytes=len(data), sha256=sha256, media_type="application/gzip"
            )
        assert stores.jobs.succeed(claim, Manifest(files=made, summary={}))
        return str(claim.job.id)


@pytest.fixture(autouse=True)
def _patient_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers late, on a busy machine, is not taken for one that is away."""
    longer = {"grpc.min_reconnect_backoff_ms": 120_000, "grpc.keepalive_timeout_ms": 120_000}
    chosen = dict(rpc_channel.options()) | longer
    monkeypatch.setattr(rpc_channel, "options", lambda: list(chosen.items()))


@pytest.fixture(scope="session")
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal() as made:
        yield made


@pytest.fixture(params=["sync", "async"])
def make_world(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    portal: BlockingPortal,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., World]]:
    worlds: list[World] = []

    def make(api_key: str | None = None, **chosen: Any) -> World:
        settings = {"data_dir": tmp_path / "gateway", "min_free_mib": 0, "public_url": URL}
        wire = Wire(create_app(Settings(**(settings | chosen))))
        slept: list[float] = []
        if request.param == "sync":
            # In the client's module alone: threads of others sleep meanwhile.
            monkeypatch.setattr(sync, "time", SimpleNamespace(sleep=slept.append))
            client: Any = Client(URL, api_key, transport=SyncWire(wire, portal))
        else:

            async def sleep(seconds: float) -> None:
                slept.append(seconds)

            monkeypatch.setattr(aio, "asyncio", SimpleNamespace(sleep=sleep))
            client = Blocking(AsyncClient(URL, api_key, transport=wire), portal)
        worlds.append(World(wire, client, slept))
        return worlds[-1]

    yield make
    for world in worlds:
        world.client.close()
        world.wire.app.state.desk.stores.close()


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()


@pytest.fixture
def pair(tmp_path: Path) -> dict[str, Path]:
    """Two small files as another library writes them."""
    files = {}
    for seed, role in enumerate(("fixed", "moving")):
        data = np.random.default_rng(seed).integers(0, 200, (12, 9, 7)).astype(np.int16)
        files[role] = tmp_path / f"{role}.nii.gz"
        nib.save(nib.Nifti1Image(data, np.diag([2.0, 2.0, 2.0, 1.0])), files[role])
    return files
