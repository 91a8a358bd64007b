"""What every upload store promises, on each adapter."""

from datetime import timedelta

import pytest

from service.errors import ConflictError, UploadCompleteError, UploadNotFoundError
from service.jobs.job import InputFile, Kind, Request
from tests.ports.conftest import Bench, new_job

DAY = timedelta(hours=24)


def test_an_upload_grows_until_it_is_complete(bench: Bench) -> None:
    upload = bench.uploads.open("alice", 100, DAY)
    assert upload.key == f"uploads/{upload.id}/data"
    assert not upload.is_complete
    bench.uploads.advance(upload.id, 60, None)
    assert bench.uploads.upload(upload.id, "alice").received == 60
    with pytest.raises(ConflictError):
        bench.uploads.advance(upload.id, 59, None)
    with pytest.raises(ConflictError):
        bench.uploads.advance(upload.id, 101, None)
    assert bench.uploads.advance(upload.id, 100, "a" * 64).is_complete
    with pytest.raises(UploadCompleteError):
        bench.uploads.advance(upload.id, 100, "a" * 64)


def test_an_upload_is_its_owners_and_expires(bench: Bench) -> None:
    upload = bench.uploads.open("alice", 100, DAY)
    with pytest.raises(UploadNotFoundError):
        bench.uploads.upload(upload.id, "bob")
    bench.clock.forward(24 * 3600)
    with pytest.raises(UploadNotFoundError):
        bench.uploads.upload(upload.id, "alice")
    assert [old.id for old in bench.uploads.expired()] == [upload.id]
    bench.uploads.delete(upload.id)
    bench.uploads.delete(upload.id)
    assert bench.uploads.expired() == []
    with pytest.raises(UploadNotFoundError):
        bench.uploads.advance(upload.id, 1, None)


def test_an_expired_upload_stays_while_an_unfinished_job_reads_it(bench: Bench) -> None:
    upload = bench.uploads.open("alice", 100, DAY)
    request = Request(kind=Kind.REGISTER, inputs={"fixed": InputFile(key=upload.key)})
    job, _ = bench.jobs.add(new_job(request=request, deadline_s=10**6))
    prefix = f"uploads/{upload.id}/"
    bench.clock.forward(24 * 3600)
    assert bench.uploads.expired() == []
    bench.uploads.delete(upload.id)
    assert bench.jobs.live_keys([prefix]) == {prefix}
    bench.jobs.cancel(job.id)
    assert bench.jobs.live_keys([prefix]) == set()
