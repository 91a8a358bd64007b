"""A pair by UID out of an archive, registered by a worker, its objects back in the archive."""

import io
import logging
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import numpy as np
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI
from pydicom import dcmread
from scipy.ndimage import gaussian_filter

from service.gateway.app import create_app
from service.jobs.job import State
from service.settings import Settings
from service.stores.build import Stores, open_stores
from service.worker.making import make_work
from service.worker.worker import Worker
from tests.archives import PASSWORD, USER, Orthanc
from tests.dicoms import affine_of, write_series

pytestmark = pytest.mark.servers

PATIENCE_S = 300  # of a busy machine
STUDY, FIXED, MOVING = "1.2.3", "1.2.3.100", "1.2.3.200"
OBJECTS = {"affine.reg.dcm", "ddf.reg.dcm", "report.sr.dcm", "warped_dicom.zip"}


def peers_file(folder: Path, url: str) -> Path:
    path = folder / "peers.toml"
    path.write_text(
        f'[peers.MAIN]\nprotocol = "dicomweb"\nurl = "{url}"\nauth = "basic"\n'
        f'username = "{USER}"\npassword = {{env = "PACS_SECRET"}}\n'
        "connect_timeout_s = 120\ntimeout_s = 120\n"
    )
    return path


def write_pair(folder: Path) -> list[Path]:
    """Two series of one patient, the second shifted by two voxels."""
    noise = np.random.default_rng(5).normal(size=(28, 28, 20))
    body = gaussian_filter(noise, 3) * 9000
    placed = affine_of(np.eye(3), (2, 2, 3), (-28, -28, 10))
    return [
        path
        for uid, data in ((FIXED, body), (MOVING, np.roll(body, 2, axis=0)))
        for path in write_series(folder / uid, data.astype(np.int16), placed, series=uid)
    ]


class Http:
    """Calls the gateway in this process."""

    def __init__(self, app: FastAPI, portal: BlockingPortal) -> None:
        self._portal = portal
        transport = httpx.ASGITransport(app)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080")

    def get(self, url: str) -> httpx.Response:
        return self._portal.call(self._client.get, url)

    def post(self, url: str, *, json: Any) -> httpx.Response:
        return self._portal.call(partial(self._client.post, url, json=json))


class Service:
    """A gateway and a worker in this process."""

    def __init__(self, settings: Settings, portal: BlockingPortal) -> None:
        self.settings = settings
        self.stores: Stores = open_stores(settings)
        self.http = Http(create_app(settings, self.stores), portal)

    def worker(self) -> Worker:
        work = make_work(self.settings, self.stores)
        return Worker.of(self.settings, self.stores, work, threading.Event())

    def order(self, *others: tuple[str, str], **more: Any) -> dict[str, Any]:
        """Order the pair, and other series by their roles."""
        inputs = {
            role: {"pacs": "MAIN", "study": STUDY, "series": uid}
            for role, uid in (("fixed", FIXED), ("moving", MOVING), *others)
        }
        options = {"initialise": "none", "refine": "none"}
        reply = self.http.post("/v1/register", json={"inputs": inputs, "options": options} | more)
        assert reply.status_code == 202, reply.text
        return dict(reply.json())

    def job(self, url: str) -> dict[str, Any]:
        return dict(self.http.get(url).json())

    def result(self, job_id: str, name: str) -> bytes:
        manifest = self.stores.jobs.job(UUID(job_id)).manifest
        assert manifest is not None
        return self.stores.blobs.get_bytes(manifest.files[name].key)


class Place(Service):
    """With its archive."""

    def __init__(self, settings: Settings, orthanc: Orthanc, portal: BlockingPortal) -> None:
        super().__init__(settings, portal)
        self.orthanc = orthanc


@pytest.fixture
def place(orthanc: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    orthanc.clear()
    monkeypatch.setenv("PACS_SECRET", PASSWORD)
    settings = Settings(
        data_dir=tmp_path / "data",
        pacs_file=peers_file(tmp_path, orthanc.dicomweb),
        threads=1,
    )
    with start_blocking_portal() as portal:
        made = Place(settings, orthanc, portal)
        yield made
        made.stores.close()


def objects_of(place: Service, job_id: str, names: set[str] = OBJECTS) -> dict[str, bytes]:
    """The result's DICOM objects as the service hands them out, by UID."""
    found = {}
    for name in names:
        data = place.result(job_id, name)
        if name.endswith(".zip"):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                files = [archive.read(entry) for entry in archive.namelist()]
        else:
            files = [data]
        for file in files:
            found[str(dcmread(io.BytesIO(file), stop_before_pixels=True).SOPInstanceUID)] = file
    return found


def test_from_archive_to_archive(
    place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "service")
    place.orthanc.take(write_pair(tmp_path / "pair"))
    before = set(place.orthanc.objects())
    job = place.order(store_to="MAIN")
    worker = place.worker()
    assert worker.work_off(once()) == 1
    done = place.job(job["links"]["self"])
    assert done["state"] == "succeeded", done["problem"]
    assert place.job(done["links"]["store"])["state"] == "queued"
    assert worker.work_off(once()) == 1
    stored = place.job(done["links"]["store"])
    assert stored["state"] == "succeeded", stored["problem"]
    ours = objects_of(place, job["id"])
    assert stored["summary"] == {"pacs": "MAIN", "sent": len(ours), "there_before": 0}
    theirs = place.orthanc.objects()
    assert {uid: theirs[uid] for uid in theirs.keys() - before} == ours

    again = place.http.post(f"/v1/jobs/{job['id']}/store", json={"pacs": "MAIN"})
    assert again.status_code == 202, again.text
    assert worker.work_off(once()) == 1
    assert place.job(again.json()["links"]["self"])["summary"]["there_before"] == len(ours)
    assert place.orthanc.objects().keys() == theirs.keys()
    assert FIXED not in caplog.text
    assert FIXED not in place.http.get("/v1/jobs").text


def once() -> Any:
    answers = iter([True])
    return lambda: next(answers, False)


def test_an_archive_that_goes_away_gets_the_result_when_it_is_back(
    place: Place, tmp_path: Path
) -> None:
    place.orthanc.take(write_pair(tmp_path / "pair"))
    job = place.order(store_to="MAIN")
    worker = place.worker()
    worker.work_off(once())
    done = place.job(job["links"]["self"])
    assert done["state"] == "succeeded", done["problem"]
    place.orthanc.stop()
    try:
        assert worker.work_off(once()) == 1
        waiting = place.job(done["links"]["store"])
        assert (waiting["state"], waiting["attempt"]) == ("queued", 0)
        assert place.result(job["id"], "report.sr.dcm")
    finally:
        place.orthanc.start()
    wait_until_stored(place, worker, done["links"]["store"])
    assert objects_of(place, job["id"]).items() <= place.orthanc.objects().items()


def wait_until_stored(place: Place, worker: Worker, url: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while place.job(url)["state"] != State.SUCCEEDED and time.monotonic() < until:
        worker.work_off(once())
        time.sleep(0.1)
    assert place.job(url)["state"] == "succeeded", place.job(url)


def test_what_is_not_offered_is_refused(place: Place) -> None:
    series = {"pacs": "OTHER", "study": STUDY, "series": FIXED}
    inputs = {"fixed": series, "moving": series}
    reply = place.http.post("/v1/register", json={"inputs": inputs})
    assert (reply.status_code, reply.json()["code"]) == (422, "pacs-unknown")
    assert reply.json()["field"] == "/inputs/fixed/pacs"
    assert FIXED not in reply.text
    for wrong in ({"pacs": "MAIN"}, {"study": STUDY, "series": FIXED}, {"series": "x;y"}):
        reply = place.http.post("/v1/register", json={"inputs": {"fixed": wrong}})
        assert reply.status_code == 422
    reply = place.http.post("/v1/register", json={"inputs": inputs, "store_to": "OTHER"})
    assert reply.json()["field"] == "/store_to"


def test_a_series_that_is_not_there_fails_the_job(place: Place) -> None:
    job = place.order()
    place.worker().work_off(once())
    problem = place.job(job["links"]["self"])["problem"]
    assert (problem["code"], problem["field"]) == ("pacs-series-not-found", "fixed")
    assert FIXED not in str(problem)


def test_a_worker_that_is_killed_between_the_two_jobs_loses_nothing(
    place: Place, tmp_path: Path
) -> None:
    """One process registers and dies at once; another dies while it stores; a third ends it."""
    place.orthanc.take(write_pair(tmp_path / "pair"))
    job = place.order(store_to="MAIN")
    first = worker_process(place)
    try:
        wait_until(lambda: place.job(job["links"]["self"])["state"] == "succeeded")
    finally:
        first.kill()
        first.wait()
    done = place.job(job["links"]["self"])
    second = worker_process(place)
    second.kill()
    second.wait()
    third = worker_process(place)
    try:
        wait_until(lambda: place.job(done["links"]["store"])["state"] == "succeeded")
    finally:
        third.terminate()
        third.wait(PATIENCE_S)
    ours = objects_of(place, job["id"])
    assert ours.items() <= place.orthanc.objects().items()
    assert len(place.orthanc.objects()) == 40 + len(ours)


def worker_process(place: Place) -> "subprocess.Popen[bytes]":
    env = os.environ | {
        "WARPLINE_DATA_DIR": str(place.settings.data_dir),
        "WARPLINE_PACS_FILE": str(place.settings.pacs_file),
        "WARPLINE_LEASE_S": "2",
        "WARPLINE_REAP_EVERY_S": "0.5",
        "WARPLINE_THREADS": "1",
    }
    return subprocess.Popen([sys.executable, "-m", "service.worker.main"], env=env)


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.02)
