"""The database underneath: its clock, how safe SQLite is, and how it fails."""

import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from service.errors import ConfigurationError, StorageFullError, StoreUnavailableError
from service.stores.database import Database, sqlite_url
from service.stores.sql_jobs import SqlJobStore


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    if request.param == "sqlite":
        return Database(sqlite_url(tmp_path / "jobs.sqlite"))
    return Database(request.getfixturevalue("postgres_url"))


def ms_since_1970() -> int:
    return int(time.time() * 1000)


def test_the_databases_clock_counts_milliseconds_since_1970(database: Database) -> None:
    with database.read() as tx:
        told = [ms_since_1970()]
        for _ in range(2):
            found = tx.execute(sa.select(database.clock())).scalar_one()
            assert isinstance(found, int)
            told += [found, ms_since_1970()]
            time.sleep(0.05)
    earliest, first, between, second, latest = told
    assert earliest - 2 <= first <= between + 2  # both are rounded
    assert between - 2 <= second <= latest + 2
    assert second - first >= 45  # also within one transaction
    database.close()


def test_a_workers_clock_is_never_asked(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 0.0)
    with database.read() as tx:
        assert tx.execute(sa.select(database.clock())).scalar_one() > 1_700_000_000_000
    database.close()


def test_sqlite_is_set_for_durability(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / "jobs.sqlite"))
    with database.read() as tx:
        pragmas = {
            name: tx.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
        version = tx.exec_driver_sql("SELECT sqlite_version()").scalar_one()
    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 30_000,
    }
    # Older ones can corrupt a WAL database; here pysqlite3 is installed.
    assert tuple(map(int, version.split("."))) >= (3, 51, 3)
    database.close()


def test_a_database_that_is_not_there_is_unavailable() -> None:
    database = Database("postgresql+psycopg://nobody:secret@127.0.0.1:1/none")
    with pytest.raises(StoreUnavailableError) as caught:
        SqlJobStore(database).ping()
    assert "secret" not in caught.value.detail
    database.close()


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / "jobs.sqlite"))
    with pytest.raises(StorageFullError):
        _fill(database)
    database.close()


def _fill(database: Database) -> None:
    with database.write() as tx:
        tx.exec_driver_sql("PRAGMA max_page_count = 4")
        tx.exec_driver_sql("CREATE TABLE filler (data BLOB)")
        tx.exec_driver_sql("INSERT INTO filler VALUES (zeroblob(100000))")


def test_what_is_no_database_url_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        Database("not a url")
