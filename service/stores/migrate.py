"""Bring a database to the newest schema: `python -m service.stores.migrate`."""

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from service.errors import ConfigurationError
from service.settings import Settings, settings
from service.stores.database import Database, sqlite_url
from service.stores.tables import SCHEMA_REVISION

SCRIPTS = Path(__file__).parent / "migrations"
# Any number, the same in every process: PostgreSQL lets one migrate at a time.
ADVISORY_LOCK = 7_270_011

log = logging.getLogger(__name__)


def database_of(config: Settings) -> Database:
    """The database that the settings name; the embedded one is a file in the data folder."""
    if config.database_url is not None:
        return Database(config.database_url)
    config.data_dir.mkdir(parents=True, exist_ok=True)
    return Database(sqlite_url(config.data_dir / "warpline.sqlite"))


def revision(database: Database) -> str | None:
    """The schema's revision; None for an empty database."""
    with database.read() as tx:
        if not sa.inspect(tx).has_table("alembic_version"):
            return None
        found = tx.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
        return None if found is None else str(found)


def migrate(database: Database, target: str = "head") -> None:
    """Run the migrations up (or down) to `target`; several processes may call it at once."""
    with _alone(database):
        if target == "head" and revision(database) == SCHEMA_REVISION:
            return
        config = Config()
        config.set_main_option("script_location", str(SCRIPTS))
        with database.write() as tx:
            config.attributes["connection"] = tx
            if target == "head" or revision_number(target) >= revision_number(revision(database)):
                command.upgrade(config, target)
            else:
                command.downgrade(config, target)


def revision_number(name: str | None) -> int:
    """Revisions are counted: `0001` is 1; none, and alembic's word `base`, are 0."""
    return 0 if name in (None, "base") else int(str(name))


@contextmanager
def _alone(database: Database) -> Iterator[None]:
    """One migration at a time, whoever starts it."""
    if database.is_sqlite:
        with Path(f"{database.engine.url.database}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        return
    with database.engine.connect() as connection, connection.begin():
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(ADVISORY_LOCK)))
        yield


def require_schema(database: Database) -> None:
    """Refuse to work on another schema than this version's.

    Raises:
        ConfigurationError: If the database must be migrated first.
    """
    found = revision(database)
    if found != SCHEMA_REVISION:
        raise ConfigurationError(
            f"The database has schema {found or 'none'} and this version needs {SCHEMA_REVISION}. "
            "Run `python -m service.stores.migrate` once with the same settings."
        )


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    database = database_of(settings())
    migrate(database)
    log.info("The database has schema %s.", revision(database))
    database.close()


if __name__ == "__main__":
    main()
