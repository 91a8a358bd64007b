"""Migrations build what the tables say, can be undone, and may be started by many at once."""

import multiprocessing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from service.errors import ConfigurationError
from service.settings import Settings
from service.stores.build import open_stores
from service.stores.database import Database, sqlite_url
from service.stores.migrate import SCRIPTS, migrate, require_schema, revision
from service.stores.tables import SCHEMA_REVISION, metadata


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "jobs.sqlite")
    return str(request.getfixturevalue("postgres_url"))


def drift(database: Database) -> list[object]:
    with database.read() as tx:
        return list(compare_metadata(MigrationContext.configure(tx), metadata))


def partial_indices(database: Database) -> set[str]:
    """Alembic does not compare these; their condition must be there in both databases."""
    with database.read() as tx:
        found = sa.inspect(tx).get_indexes("job")
    dialect = database.engine.dialect.name
    return {
        str(index["name"])
        for index in found
        if index["dialect_options"].get(f"{dialect}_where") is not None
    }


def test_up_down_and_up_again_gives_the_tables(url: str) -> None:
    database = Database(url)
    migrate(database)
    assert drift(database) == []
    assert partial_indices(database) == {"ix_job_waiting", "ix_job_queued_deadline", "ix_job_lease"}
    migrate(database, "base")
    with database.read() as tx:
        assert sa.inspect(tx).get_table_names() == ["alembic_version"]
    migrate(database)
    migrate(database)
    assert drift(database) == []
    database.close()


def test_the_newest_migration_is_the_one_that_the_code_needs() -> None:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    assert ScriptDirectory.from_config(config).get_current_head() == SCHEMA_REVISION


def _migrate(url: str) -> None:
    database = Database(url)
    migrate(database)
    database.close()


def test_many_processes_may_start_at_once(url: str) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_migrate, args=(url,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    database = Database(url)
    assert revision(database) == SCHEMA_REVISION
    database.close()


def test_another_schema_is_refused_with_what_to_do(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / "jobs.sqlite"))
    with pytest.raises(ConfigurationError, match=r"service\.stores\.migrate"):
        require_schema(database)
    database.close()


@pytest.mark.servers
def test_a_shared_database_is_not_migrated_behind_its_operators_back(
    postgres_url: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError):
        open_stores(Settings(database_url=postgres_url, data_dir=tmp_path))


def test_the_embedded_database_makes_itself(tmp_path: Path) -> None:
    stores = open_stores(Settings(data_dir=tmp_path / "new"))
    stores.jobs.ping()
    stores.close()
    stores = open_stores(Settings(data_dir=tmp_path / "new"))
    assert stores.jobs.counts() == {}
    stores.close()
