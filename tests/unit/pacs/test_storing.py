"""The job that stores a result: made with the end of the first, patient, and never twice."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from service.audit.log import AuditLog
from service.errors import NothingToStoreError, PacsUnavailableError
from service.jobs.digest import request_digest
from service.jobs.job import InputFile, Job, Kind, NewJob, PacsSeries, Queue, Request, State
from service.jobs.runner import Outcome, Output, Runner
from service.jobs.storing import wait_before_storing_again
from service.pacs.peers import DicomwebPeer, Peers
from service.settings import Settings
from service.stores.memory import MemoryJobStore
from service.stores.memory_files import MemoryBlobStore
from service.stores.signing import UrlSigner
from service.worker.storing import Storing

LEASE = timedelta(seconds=30)
SIGNER = UrlSigner(b"secret", "http://gateway")
QUEUES = [Queue.INTERACTIVE, Queue.BATCH]
SERIES = PacsSeries(pacs="A", study="1.2", series="1.2.3")


def request(store_to: str | None = None, series: PacsSeries = SERIES) -> Request:
    file = InputFile(pacs=series)
    return Request(kind=Kind.REGISTER, inputs={"fixed": file, "moving": file}, store_to=store_to)


def work(job: Job, folder: Path, watch: object) -> Outcome:
    if job.request.kind is Kind.STORE:
        raise PacsUnavailableError
    files = {}
    for name in ("warped.nii.gz", "ddf.reg.dcm", "warped_dicom.zip"):
        (folder / name).write_bytes(name.encode())
        files[name] = Output(folder / name, "x/y")
    return Outcome(files)


class Bench:
    def __init__(self, scratch: Path) -> None:
        self.now = 1_000_000.0
        self.jobs = MemoryJobStore(lambda: self.now)
        self.runner = Runner(
            self.jobs,
            MemoryBlobStore(SIGNER),
            work,
            scratch,
            LEASE,
            max_attempts=3,
            store_for=timedelta(hours=2),
        )

    def add(self, store_to: str | None) -> Job:
        asked = request(store_to)
        new = NewJob(
            owner="alice", request=asked, request_digest=request_digest(asked), deadline_s=60
        )
        return self.jobs.add(new)[0]

    def run(self) -> State | None:
        claim = self.jobs.claim(QUEUES, "w", LEASE)
        return None if claim is None else self.runner.run(claim)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_result_that_is_to_be_stored_is_followed_by_its_job(bench: Bench) -> None:
    first = bench.add("A")
    assert bench.run() == State.SUCCEEDED
    manifest = bench.jobs.job(first.id).manifest
    assert manifest is not None
    store = bench.jobs.job(manifest.store_job, "alice")  # type: ignore[arg-type]
    assert (store.request.kind, store.state) == (Kind.STORE, State.QUEUED)
    assert set(store.request.inputs) == {"ddf.reg.dcm", "warped_dicom.zip"}
    assert store.request.options == {"pacs": "A", "job_id": str(first.id)}
    assert (store.deadline_at - store.created_at) == timedelta(hours=2)
    assert bench.jobs.is_read(f"jobs/{first.id}/")  # so that nobody removes it meanwhile


def test_without_an_archive_nothing_follows(bench: Bench) -> None:
    bench.add(None)
    assert bench.run() == State.SUCCEEDED
    assert bench.run() is None


def test_a_worker_that_lost_its_job_makes_none_that_follows(bench: Bench) -> None:
    bench.add("A")
    lost = bench.jobs.claim(QUEUES, "w1", LEASE)
    assert lost is not None
    bench.now += 31
    bench.jobs.reap(3)
    bench.now += 10
    assert bench.runner.run(lost) is None
    assert len(bench.jobs.page("alice").jobs) == 1


def test_an_archive_that_is_away_is_asked_again_for_hours(bench: Bench) -> None:
    bench.add("A")
    bench.run()
    tries = 0
    until = bench.now + 2 * 3600
    while bench.now < until:
        tries += bench.run() == State.QUEUED
        bench.now += 1
        bench.jobs.reap(3)
    (store,) = [job for job in bench.jobs.page("alice").jobs if job.request.kind is Kind.STORE]
    assert store.state == State.EXPIRED
    assert 20 < tries < 60


def test_pauses_grow_and_end_at_ten_minutes(bench: Bench) -> None:
    job, now = bench.add(None), datetime.now(UTC)
    for age_s, pause_s in ((0, 2), (40, 10), (24_000, 600), (90_000, 600)):
        aged = job.model_copy(
            update={"created_at": now, "started_at": now + timedelta(seconds=age_s)}
        )
        assert wait_before_storing_again(aged) == timedelta(seconds=pause_s)


def test_a_result_without_dicom_cannot_be_stored(tmp_path: Path) -> None:
    peers = Peers({"A": DicomwebPeer(protocol="dicomweb", url="http://127.0.0.1:9")})
    asked = Request(kind=Kind.STORE, inputs={}, options={"pacs": "A", "job_id": str(uuid4())})
    job = Bench(tmp_path).add(None).model_copy(update={"request": asked})
    storing = Storing(MemoryBlobStore(SIGNER), peers, AuditLog.of(Settings()))
    with pytest.raises(NothingToStoreError):
        storing(job, tmp_path, lambda *_: None)


def test_requests_differ_by_series_and_archive() -> None:
    other = PacsSeries(pacs="A", study="1.2", series="1.2.4")
    digests = {
        request_digest(one) for one in (request(), request("A"), request("B"), request(None, other))
    }
    assert len(digests) == 4


def test_uids_are_in_no_text_of_a_job() -> None:
    assert "1.2.3" not in repr(request())
