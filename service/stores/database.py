"""One database connection, SQLite or PostgreSQL: how it is opened, locked and how it fails."""

import importlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from service.errors import ConfigurationError, StorageFullError, StoreUnavailableError
from service.stores.tables import DatabaseNow

BUSY_TIMEOUT_S = 30
CONNECT_TIMEOUT_S = 10  # a server that is there may be held up for a while

Clock = Callable[[], sa.ColumnElement[int]]


class Database:
    """An engine with the two kinds of transaction that the stores use.

    Make it in the process that uses it: connections do not survive a fork.
    """

    def __init__(self, url: str, *, clock: Clock = DatabaseNow) -> None:
        """Open lazily.

        Args:
            url: `sqlite:///PATH` or `postgresql+psycopg://...`.
            clock: Milliseconds since 1970 as a SQL expression; only tests give another one.
        """
        self.engine = _engine(url)
        self.clock = clock
        self.is_sqlite = self.engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that only reads."""
        with _translated(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction that may write; on SQLite it holds the one write lock from its start."""
        with _translated(), self.engine.connect() as connection:
            connection.execution_options(warpline_immediate=True)
            with connection.begin():
                yield connection

    def close(self) -> None:
        self.engine.dispose()


def sqlite_url(path: Path) -> str:
    return f"sqlite:///{path.absolute()}"


def _engine(url: str) -> sa.Engine:
    try:
        if url.startswith("sqlite"):
            return _sqlite_engine(url)
        return sa.create_engine(
            url,
            pool_pre_ping=True,
            pool_timeout=CONNECT_TIMEOUT_S,
            connect_args={"connect_timeout": CONNECT_TIMEOUT_S},
        )
    except sa.exc.ArgumentError as error:
        raise ConfigurationError(
            "WARPLINE_DATABASE_URL is no database URL; it looks like "
            "postgresql+psycopg://USER:PASSWORD@HOST/NAME."
        ) from error


def _sqlite_module() -> Any:
    """SQLite 3.7.0 to 3.51.2 can corrupt a WAL database (fixed in 3.51.3); pysqlite3 is newer."""
    try:
        return importlib.import_module("pysqlite3.dbapi2")
    except ImportError:
        return sqlite3


def _sqlite_engine(url: str) -> sa.Engine:
    engine = sa.create_engine(
        url, module=_sqlite_module(), connect_args={"timeout": BUSY_TIMEOUT_S}
    )
    sa.event.listen(engine, "connect", _set_up_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the module would delay BEGIN; _begin_sqlite sends it
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_S * 1000}",
        "journal_mode = WAL",
        "synchronous = FULL",  # NORMAL may lose a commit that was answered when power fails
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: sa.Connection) -> None:
    immediate = connection.get_execution_options().get("warpline_immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


@contextmanager
def _translated() -> Iterator[None]:
    """Say a database's failure in our words; its own words hold statements and values."""
    try:
        yield
    except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError) as error:
        if _is_full(error):
            raise StorageFullError from error
        raise StoreUnavailableError("The database does not answer; try again later.") from error
    except exc.DBAPIError as error:
        if error.connection_invalidated:
            raise StoreUnavailableError("The database does not answer; try again later.") from error
        raise


def _is_full(error: Exception) -> bool:
    text = str(getattr(error, "orig", ""))
    return "disk is full" in text or "No space left" in text
