"""A gateway on a database of its own, and small real files to send to it."""

import gzip
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import nibabel as nib
import numpy as np
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI

from service.gateway.app import create_app
from service.jobs.job import Manifest, Queue, ResultFile
from service.settings import Settings
from service.stores.build import Stores

SHAPE = (12, 9, 7)
LEASE = timedelta(seconds=30)


def volume(
    shape: tuple[int, ...] = SHAPE,
    *,
    origin_mm: tuple[float, float, float] = (0, 0, 0),
    spacing_mm: float = 2.0,
    dtype: Any = np.int16,
    seed: int = 0,
) -> bytes:
    """A NIfTI file as another library writes it."""
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = origin_mm
    data = np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)
    return bytes(nib.Nifti1Image(data, affine).to_bytes())


def zipped(data: bytes) -> bytes:
    return gzip.compress(data, 1, mtime=0)


PAIR = {"fixed": volume(seed=1), "moving": volume(seed=2)}


class Api:
    """Calls an app as a client would, one request after the other."""

    def __init__(self, app: FastAPI, portal: BlockingPortal) -> None:
        self.app = app
        self.stores: Stores = app.state.desk.stores
        self.portal = portal
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://gateway"
        )

    def call(self, method: str, url: str, **what: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            return await self._client.request(method, url, **what)

        return self.portal.call(send)

    def get(self, url: str, **what: Any) -> httpx.Response:
        return self.call("GET", url, **what)

    def post(self, url: str, **what: Any) -> httpx.Response:
        return self.call("POST", url, **what)

    def register(self, files: dict[str, bytes] | None = None, **fields: Any) -> httpx.Response:
        headers = fields.pop("headers", {})
        return self.post("/v1/register", files=files or PAIR, data=fields, headers=headers)

    def job(self) -> str:
        """The id of a new job."""
        answer = self.register()
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def upload(self, data: bytes) -> str:
        """The id of a complete upload."""
        made = self.post("/v1/uploads", json={"bytes": len(data)})
        assert made.status_code == 201, made.text
        sent = self.call("PUT", made.headers["location"], content=data)
        assert sent.json()["complete"], sent.text
        return str(made.json()["id"])

    def work(self, files: dict[str, bytes] | None = None) -> str:
        """Do the next job as a worker would, with these results; gives its id."""
        claim = self.stores.jobs.claim([Queue.INTERACTIVE, Queue.BATCH], "worker-1", LEASE)
        assert claim is not None
        made = {}
        for name, data in (files or {"warped.nii.gz": b"warped", "ddf.nii.gz": b"field"}).items():
            key = f"jobs/{claim.job.id}/{claim.fence}/{name}"
            self.stores.blobs.put_bytes(key, data)
            made[name] = ResultFile(
                key=key, bytes=len(data), sha256="0" * 64, media_type="application/gzip"
            )
        summary = {"verdict": {"status": "pass", "reasons": []}, "metrics": {"ncc_after": 0.9}}
        assert self.stores.jobs.succeed(claim, Manifest(files=made, summary=summary))
        return str(claim.job.id)


@pytest.fixture(scope="session")
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal() as made:
        yield made


@pytest.fixture
def make_api(tmp_path: Path, portal: BlockingPortal) -> Iterator[Callable[..., Api]]:
    """A gateway with these settings; its database goes with the test."""
    made: list[Api] = []

    def make(**chosen: Any) -> Api:
        folder = tmp_path / f"gateway-{len(made)}"
        relaxed = {"data_dir": folder, "min_free_mib": 0, "requests_per_minute": 100_000}
        settings = Settings(**relaxed | chosen)
        made.append(Api(create_app(settings), portal))
        return made[-1]

    yield make
    for api in made:
        api.stores.close()


@pytest.fixture
def api(make_api: Callable[..., Api]) -> Api:
    return make_api()


def is_problem(answer: httpx.Response, status: int, code: str) -> bool:
    """Whether the answer is the documented error, in full."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body = answer.json()
    assert (answer.status_code, body["code"]) == (status, code), body
    assert body["status"] == status
    assert body["type"] == f"urn:warpline:error:{code}"
    assert body["title"]
    assert body["detail"]
    assert body["instance"] == f"urn:uuid:{answer.headers['x-request-id']}"
    assert body["retryable"] == ("retry-after" in answer.headers)
    return True
