"""Every adapter of the job and upload stores, on a clock that only tests move."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa

from service.jobs.cohorts import CohortStore
from service.jobs.datasets import DatasetStore
from service.jobs.job import InputFile, Kind, NewJob, Request
from service.jobs.ports import JobStore, ModelRegistry, UploadStore
from service.stores.database import Database, sqlite_url
from service.stores.memory import MemoryJobStore
from service.stores.memory_cohorts import MemoryCohortStore
from service.stores.memory_datasets import MemoryDatasetStore
from service.stores.memory_files import MemoryUploadStore
from service.stores.migrate import migrate
from service.stores.sql_cohorts import SqlCohortStore
from service.stores.sql_datasets import SqlDatasetStore
from service.stores.sql_jobs import SqlJobStore
from service.stores.sql_models import SqlModelRegistry
from service.stores.sql_uploads import SqlUploadStore
from tests.migrated import copied_or


@dataclass
class HandClock:
    """Seconds since 1970, moved by hand."""

    now_s: float = 1_800_000_000.0

    def seconds(self) -> float:
        return self.now_s

    def sql(self) -> sa.ColumnElement[int]:
        return sa.literal(round(self.now_s * 1000), sa.BigInteger())

    def forward(self, seconds: float) -> None:
        self.now_s += seconds


@dataclass
class Bench:
    """One adapter of each store, side by side."""

    jobs: JobStore
    uploads: UploadStore
    models: ModelRegistry
    datasets: DatasetStore
    cohorts: CohortStore
    clock: HandClock


def new_job(owner: str = "alice", **changes: object) -> NewJob:
    """A job that nobody has to understand."""
    inputs = {"fixed": InputFile(key="uploads/f/data"), "moving": InputFile(key="uploads/m/data")}
    values: dict[str, object] = {
        "owner": owner,
        "request": Request(kind=Kind.REGISTER, inputs=inputs, options={"seed": 3}),
        "request_digest": "d" * 64,
        "deadline_s": 3600,
    }
    return NewJob.model_validate(values | changes)


def memory_bench() -> Bench:
    clock = HandClock()

    def is_kept(upload_id: UUID) -> bool:
        return uploads.exists(upload_id) or datasets.keeps(upload_id)

    jobs = MemoryJobStore(clock.seconds, is_kept)
    uploads = MemoryUploadStore(clock.seconds, jobs.is_read)
    datasets = MemoryDatasetStore(clock.seconds, uploads.delete)
    cohorts = MemoryCohortStore(jobs, clock.seconds)
    return Bench(jobs, uploads, jobs.models, datasets, cohorts, clock)


def sql_bench(database: Database, clock: HandClock) -> Bench:
    copied_or(migrate)(database)
    return Bench(
        SqlJobStore(database),
        SqlUploadStore(database),
        SqlModelRegistry(database),
        SqlDatasetStore(database),
        SqlCohortStore(database),
        clock,
    )


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    if request.param == "memory":
        yield memory_bench()
        return
    if request.param == "sqlite":
        url = sqlite_url(tmp_path / "jobs.sqlite")
    else:
        url = request.getfixturevalue("postgres_url")
    clock = HandClock()
    database = Database(url, clock=clock.sql)
    yield sql_bench(database, clock)
    database.close()
