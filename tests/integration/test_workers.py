"""The real worker process on small volumes, and Celery's workers when all goes well."""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import psycopg
import pytest
import redis as redis_client

from service.jobs.intake import Intake
from service.jobs.job import InputFile, Job, Kind, Request, State
from service.registration.fields import DisplacementField
from service.registration.files.field_file import write_field
from service.registration.grid import Grid
from service.settings import Settings
from service.stores.build import Stores, open_stores
from service.stores.migrate import database_of, migrate
from tests.integration.chaos import (
    ROOT,
    Swarm,
    environment,
    kill_every,
    start_worker,
    submit,
    wait_until_done,
)
from tests.servers import RedisServer
from tests.uploads import sent

SHAPE = (24, 22, 20)
QUICK = {"initialise": "none", "refine": "none"}
PATIENCE_S = 300


def blobs_of(shift_voxels: float, folder: Path) -> bytes:
    """A volume of two soft balls, as a NIfTI file."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij"), axis=-1)
    large = np.exp(-((index - [12 + shift_voxels, 11, 10]) ** 2).sum(-1) / 40)
    small = np.exp(-((index - [6, 8 + shift_voxels, 5]) ** 2).sum(-1) / 9)
    image = nib.Nifti1Image((900 * large + 500 * small).astype(np.float32), np.diag([2, 2, 2.5, 1]))
    image.header.set_xyzt_units("mm")
    nib.save(image, folder / "volume.nii.gz")
    return (folder / "volume.nii.gz").read_bytes()


def wait_for(stores: Stores, job: Job, timeout_s: float = PATIENCE_S) -> Job:
    until = time.monotonic() + timeout_s
    while not (job := stores.jobs.job(job.id)).state.is_terminal:
        assert time.monotonic() < until, job
        time.sleep(0.05)
    return job


@pytest.fixture
def real_worker(tmp_path: Path) -> Iterator[tuple[Stores, "subprocess.Popen[bytes]", Path]]:
    """`python -m service.worker.main` as the embedded stack starts it, and what it logs."""
    config = Settings(data_dir=tmp_path / "data")
    stores = open_stores(config)
    log = tmp_path / "worker.log"
    with log.open("wb") as output:
        worker = subprocess.Popen(
            [sys.executable, "-m", "service.worker.main"],
            cwd=ROOT,
            env=environment(config),
            stderr=output,
        )
    yield stores, worker, log
    worker.kill()
    worker.wait()
    stores.close()


@pytest.mark.slow
def test_the_real_worker_registers_warps_refuses_and_stops(
    real_worker: tuple[Stores, "subprocess.Popen[bytes]", Path], tmp_path: Path
) -> None:
    stores, worker, log = real_worker
    intake = Intake(stores.jobs, stores.doorbell, 100, 100, 600)
    fixed = sent(stores, blobs_of(0, tmp_path))
    moving = sent(stores, blobs_of(1.5, tmp_path))
    broken = sent(stores, b"DOE^JANE is no image")

    pair = Request(kind=Kind.REGISTER, inputs={"fixed": fixed, "moving": moving}, options=QUICK)
    done = wait_for(stores, intake.submit(pair, "a")[0])
    assert done.state == State.SUCCEEDED, done.problem
    assert {"warped.nii.gz", "ddf.nii.gz", "report.json"} <= set(done.manifest.files)
    for file in done.manifest.files.values():
        data = stores.blobs.get_bytes(file.key)
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file.bytes, file.sha256)
    assert done.manifest.summary["metrics"]["ncc_after"] > 0.95

    again = {"moving": moving, "ddf": InputFile(key=done.manifest.files["ddf.nii.gz"].key)}
    warped = wait_for(stores, intake.submit(Request(kind=Kind.WARP, inputs=again), "a")[0])
    assert warped.state == State.SUCCEEDED, warped.problem
    first, second = (
        _voxels(stores, job.manifest.files["warped.nii.gz"].key, tmp_path) for job in (done, warped)
    )
    np.testing.assert_allclose(first, second, atol=0.5)  # of 1000: the field is stored as float32

    bad = Request(kind=Kind.REGISTER, inputs={"fixed": broken, "moving": moving}, options=QUICK)
    refused = wait_for(stores, intake.submit(bad, "a")[0])
    assert refused.state == State.FAILED
    assert (refused.problem["status"], refused.problem["field"]) == (415, "fixed")

    worker.terminate()
    assert worker.wait(20) == 0
    assert "DOE" not in log.read_text() + str(refused)
    assert "uploads/" not in log.read_text()


def _voxels(stores: Stores, key: str, folder: Path) -> np.ndarray:
    stores.blobs.get_file(key, folder / "result.nii.gz")
    return nib.load(folder / "result.nii.gz").get_fdata()


@pytest.mark.slow
def test_killed_real_workers_repeat_their_jobs_byte_for_byte(tmp_path: Path) -> None:
    config = Settings(data_dir=tmp_path / "data", lease_s=3, reap_every_s=0.5, max_attempts=100)
    stores = open_stores(config)
    field = DisplacementField.zero(Grid(SHAPE, np.diag([2, 2, 2.5, 1])))
    write_field(tmp_path / "ddf.nii.gz", field)
    inputs = {
        "moving": sent(stores, blobs_of(1.5, tmp_path)),
        "ddf": sent(stores, (tmp_path / "ddf.nii.gz").read_bytes()),
    }
    intake = Intake(stores.jobs, stores.doorbell, 100, 100, 600)
    request = Request(kind=Kind.WARP, inputs=inputs)
    jobs = [intake.submit(request, "a")[0] for _ in range(30)]
    swarm = Swarm(config, "real", size=2)
    try:
        wait_until_done(stores, len(jobs), kill_every(swarm, stores, len(jobs), 5), timeout_s=500)
    finally:
        swarm.stop()
    ended = [stores.jobs.job(job.id) for job in jobs]
    assert {job.state for job in ended} == {State.SUCCEEDED}
    assert sum(job.fence for job in ended) > len(jobs), "no kill hit a job"
    assert len({job.manifest.files["warped.nii.gz"].sha256 for job in ended}) == 1
    warped = _voxels(stores, ended[0].manifest.files["warped.nii.gz"].key, tmp_path)
    moving = nib.load(tmp_path / "volume.nii.gz").get_fdata()
    np.testing.assert_allclose(warped, moving, atol=1e-3)  # a zero field moves nothing
    stores.close()


@pytest.mark.servers
def test_a_worker_outlives_its_database_connections(postgres_url: str, tmp_path: Path) -> None:
    config = Settings(data_dir=tmp_path / "data", database_url=postgres_url)
    database = database_of(config)
    migrate(database)
    database.close()
    stores = open_stores(config)
    worker = start_worker(config, "poll")
    try:
        for job_id in submit(stores, 6, seconds=0.5):
            _cut_connections(postgres_url)
            assert wait_for(stores, stores.jobs.job(job_id)).state == State.SUCCEEDED
        assert worker.poll() is None
    finally:
        worker.terminate()
        assert worker.wait(PATIENCE_S) == 0
        stores.close()


def _cut_connections(url: str) -> None:
    """What a fail-over does to everybody who is connected."""
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )


# --- Celery ---


@pytest.fixture
def celery_stores(
    postgres_url: str, redis_server: RedisServer, tmp_path: Path
) -> Iterator[tuple[Settings, Stores]]:
    with redis_client.Redis.from_url(redis_server.url) as client:
        client.flushall()
    config = Settings(
        data_dir=tmp_path / "data",
        database_url=postgres_url,
        redis_url=redis_server.url,
        reap_every_s=0.5,
    )
    database = database_of(config)
    migrate(database)
    database.close()
    stores = open_stores(config)
    yield config, stores
    stores.close()


@pytest.mark.servers
def test_a_celery_worker_answers_rings_and_hands_its_job_back_when_stopped(
    celery_stores: tuple[Settings, Stores],
) -> None:
    config, stores = celery_stores
    worker = start_worker(config, "celery")
    try:
        (first,) = submit(stores, 1)
        assert wait_for(stores, stores.jobs.job(first)).state == State.SUCCEEDED
        intake = Intake(stores.jobs, stores.doorbell, 100, 100, 600)
        again = stores.jobs.job(first).request.model_copy(update={"options": {"seconds": 1000}})
        second, _ = intake.submit(again, "a")
        until = time.monotonic() + PATIENCE_S
        while stores.jobs.job(second.id).progress.stage in ("queued", "starting"):
            assert time.monotonic() < until
            time.sleep(0.05)
    finally:
        worker.terminate()
        assert worker.wait(PATIENCE_S) == 0
    back = stores.jobs.job(second.id)
    assert (back.state, back.attempt) == (State.QUEUED, 0)


@pytest.mark.servers
def test_rings_that_redis_forgot_are_rung_again(
    celery_stores: tuple[Settings, Stores], redis_server: RedisServer
) -> None:
    config, stores = celery_stores
    jobs = submit(stores, 3)
    stores.doorbell.close()
    with redis_client.Redis.from_url(redis_server.url) as client:
        client.flushall()
    worker = start_worker(config, "celery")
    try:
        for job_id in jobs:
            assert wait_for(stores, stores.jobs.job(job_id)).state == State.SUCCEEDED
    finally:
        worker.terminate()
        worker.wait(PATIENCE_S)


def test_the_parent_of_a_celery_pool_loads_no_runtime() -> None:
    """What is made before a fork must not be a thread pool or a session."""
    code = "import service.worker.tasks, sys; print({'numba', 'onnxruntime'} & set(sys.modules))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, check=True)
    assert done.stdout.strip() == b"set()"
